/* Work that outlasts its quantum, so that threads of one priority are made to take turns. */
#include "kern.h"
#include "ppc.h"
#include "work.h"

uint32_t check_registers(uint32_t rounds);

static uint32_t collatz_next(uint32_t n)
{
    return n & 1 ? 3 * n + 1 : n / 2;
}

static uint32_t collatz_length(uint32_t n)
{
    uint32_t length = 1;
    for (; n != 1; n = collatz_next(n))
        length++;
    return length;
}

/* Of the numbers below 100 the longest sequence is that of 97: 119 members. */
static bool collatz_is_right(void)
{
    uint32_t longest = 0, of = 0;
    for (uint32_t n = 1; n < 100; n++) {
        uint32_t length = collatz_length(n);
        if (length > longest) {
            longest = length;
            of = n;
        }
    }
    return longest == 119 && of == 97;
}

bool work_background(uint32_t number)
{
    uint32_t until = per_proc_info.ticks + 5 + number % 4;
    bool right = true;
    while (right && (int)(until - per_proc_info.ticks) > 0)
        right = collatz_is_right();
    return right;
}

bool work_registers(uint32_t number)
{
    return check_registers(1000000 + number % 100 * 10000) == 0;
}
