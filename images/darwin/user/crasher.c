/* Do something forbidden, by number: see mach_init. */
#include "libc.h"

static uint32_t recurse(volatile uint32_t n)
{
    volatile char room[1024];
    room[0] = (char)n;
    return recurse(n + 1) + (uint32_t)room[0];
}

int main(int which)
{
    volatile uint32_t *const nowhere = (volatile uint32_t *)(which == 0 || which == 1 ? 0u : 0x57000000u);
    void (*volatile jump)(void) = (void (*)(void))0x58000000;
    volatile double zero = 0, one = 1;
    switch (which) {
    case 0:
        return (int)*nowhere;
    case 1:
        *nowhere = 1;
        break;
    case 2:
        *(volatile uint32_t *)0x00400000 = 1;
        break;
    case 3:
        do_privileged();
        break;
    case 4:
        do_illegal();
        break;
    case 5:
        do_trap();
        break;
    case 6:
        *(volatile uint32_t *)main = 0;
        break;
    case 7:
        *nowhere = 1;
        break;
    case 8:
        return (int)recurse(0);
    case 9:
        jump();
        break;
    case 10:
        __asm__ volatile("mtfsb1 27"); /* FPSCR[ZE] */
        return (int)(one / zero);
    default:
        exit(42);
    }
    return 0;
}
