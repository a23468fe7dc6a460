/* What the kernel does for a process that the CPU will not: misaligned lwarx, mfpvr, single steps. */
#include "libc.h"

static uint32_t steps(uint32_t n)
{
    uint32_t before = (uint32_t)trace(1);
    count_down(n);
    return (uint32_t)trace(0) - before;
}

static bool misaligned(uint32_t number)
{
    uint8_t area[16];
    uint32_t assists = counter("hw.alignment_assists"), seed = number, value;
    bool right = true;
    for (uint32_t i = 0; i < sizeof area; i++)
        area[i] = (uint8_t)random_next(&seed);
    for (uint32_t at = 1; at < 12; at++) {
        memcpy(&value, area + at, sizeof value);
        right &= misaligned_load(area + at) == value && misaligned_load_at(area, at) == value;
    }
    right &= misaligned_store(area + 2) == 0;
    return right && counter("hw.alignment_assists") - assists == 2 * 9 + 1; /* 4 and 8 are aligned */
}

static bool round(uint32_t number)
{
    uint32_t some = 1 + number % 20, one = steps(some), more = steps(some + 7);
    uint32_t fixed = one - some;
    bool right = more - one == 7 && fixed >= 4 && fixed < 40;
    right &= misaligned(number);
    return right && processor_version() >> 16 == 8 && no_such_call() < 0 && errno == 78; /* the 750 is 8 */
}

int main(void)
{
    check_for_ever(round, 20);
}
