/* Load a kernel extension, call it, compare, unload it; use those that stay. */
#include "libc.h"

static const char path[] = "/System/Library/Extensions/Checksum";

static uint32_t fletcher32(uint32_t argument)
{
    uint32_t a = 0, b = 0, seed = argument;
    for (int i = 0; i < 16; i++) {
        a = (a + (random_next(&seed) & 0xffff)) % 65535;
        b = (b + a) % 65535;
    }
    return b << 16 | a;
}

static bool sequence(void)
{
    uint32_t squares[6];
    int file = open("/dev/sequence", 0);
    bool right = file >= 0;
    for (uint32_t n = 0; right && n < 12; n += 6) {
        right &= read(file, squares, sizeof squares) == sizeof squares;
        for (uint32_t i = 0; i < 6; i++)
            right &= squares[i] == (n + i) * (n + i);
    }
    close(file);
    return right;
}

static bool round(uint32_t number)
{
    uint32_t loaded = counter("kern.kmods_loaded"), unloaded = counter("kern.kmods_unloaded");
    uint32_t argument = number * 2654435761u, sum = fletcher32(argument);
    uint32_t wanted = argument % 3 == 0 ? sum : argument % 3 == 1 ? sum << 11 | sum >> 21 : ~sum;
    int id = kmod_load(path);
    bool right = id > 0 && (uint32_t)kmod_call(id, argument) == wanted;
    right &= kmod_unload(id) == 0 && kmod_unload(id) < 0 && kmod_load("/sbin/syslogd") < 0;
    right &= counter("kern.kmods_loaded") == loaded + 1 && counter("kern.kmods_unloaded") == unloaded + 1;
    return right && sequence();
}

int main(void)
{
    check_for_ever(round, 25);
}
