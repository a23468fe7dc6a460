/* Memory moves of all alignments and overlaps, against a byte by byte reference. */
#include "kern.h"
#include "work.h"

#define AREA 256

static void slow_move(uint8_t *to, const uint8_t *from, uint32_t n)
{
    if (to < from)
        for (uint32_t i = 0; i < n; i++)
            to[i] = *(volatile const uint8_t *)&from[i];
    else
        while (n--)
            to[n] = *(volatile const uint8_t *)&from[n];
}

static bool same(const uint8_t *a, const uint8_t *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return false;
    return bcmp(a, b, n) == 0;
}

static bool move_case(uint32_t to, uint32_t from, uint32_t n, uint32_t seed)
{
    uint8_t fast[AREA], slow[AREA];
    fill_random(seed, fast, AREA);
    memcpy(slow, fast, AREA);
    if (seed & 1)
        memmove(fast + to, fast + from, n);
    else
        bcopy(fast + from, fast + to, n);
    slow_move(slow + to, slow + from, n);
    return same(fast, slow, AREA);
}

static bool set_case(uint32_t at, uint32_t n, uint8_t value)
{
    uint8_t area[AREA];
    bzero(area, AREA);
    memset(area + at, value, n);
    for (uint32_t i = 0; i < AREA; i++)
        if (area[i] != (i >= at && i < at + n ? value : 0))
            return false;
    return true;
}

bool work_copies(uint32_t number)
{
    uint32_t seed = number + 99;
    bool right = true;
    for (int i = 0; i < 8; i++) {
        uint32_t to = random_next(&seed) % 100, from = random_next(&seed) % 100, n = random_next(&seed) % 150;
        right &= move_case(to, from, n, number + i);
        right &= set_case(to, n, (uint8_t)(from + 1));
    }
    return right;
}
