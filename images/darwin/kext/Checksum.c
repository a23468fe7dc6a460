/* An extension that computes: Fletcher's checksum over pseudo-random words, by a jump table of folds. */
#include "kern.h"
#include "kmod.h"

static uint32_t calls;

static uint32_t fold_none(uint32_t sum)
{
    return sum;
}

static uint32_t fold_rotate(uint32_t sum)
{
    return sum << 11 | sum >> 21;
}

static uint32_t fold_complement(uint32_t sum)
{
    return ~sum;
}

static uint32_t (*const folds[])(uint32_t) = {fold_none, fold_rotate, fold_complement};

static uint32_t fletcher32(const uint16_t *words, uint32_t n)
{
    uint32_t a = 0, b = 0;
    for (uint32_t i = 0; i < n; i++) {
        a = (a + words[i]) % 65535;
        b = (b + a) % 65535;
    }
    return b << 16 | a;
}

static uint32_t checksum_call(uint32_t argument)
{
    uint16_t words[16];
    uint32_t seed = argument;
    for (unsigned i = 0; i < countof(words); i++)
        words[i] = (uint16_t)random_next(&seed);
    calls++;
    return folds[argument % countof(folds)](fletcher32(words, countof(words)));
}

static int checksum_start(void)
{
    calls = 0;
    return 0;
}

static int checksum_stop(void)
{
    return 0;
}

const struct kmod_entry kmod_entry = {"org.darwin.kext.Checksum", "1.0", checksum_start, checksum_stop, checksum_call};
