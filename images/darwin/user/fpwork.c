/* Floating point in a process, against whole numbers; values stay in registers across other's use. */
#include "libc.h"

static double power(double base, uint32_t exponent)
{
    double result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}

static bool sums(uint32_t number)
{
    double sum = 0, squares = 0;
    int n = 50 + (int)(number % 50);
    for (int i = 1; i <= n; i++) {
        sum += i;
        squares += (double)i * i;
    }
    return (int)sum == n * (n + 1) / 2 && (int)squares == n * (n + 1) * (2 * n + 1) / 6;
}

/* Eight values live in registers while the CPU is given away. */
static bool kept(uint32_t number)
{
    double a = (double)(int)number, b = a + 1, c = a + 2, d = a + 3, e = a * 2, f = a * 3, g = a * 4, h = a * 5;
    for (int i = 0; i < 3; i++) {
        __asm__ volatile("" : "+f"(a), "+f"(b), "+f"(c), "+f"(d), "+f"(e), "+f"(f), "+f"(g), "+f"(h));
        sched_yield();
        __asm__ volatile("" : "+f"(a), "+f"(b), "+f"(c), "+f"(d), "+f"(e), "+f"(f), "+f"(g), "+f"(h));
    }
    return (int)(a + b + c + d + e + f + g + h) == (int)(18 * number + 6);
}

static bool round(uint32_t number)
{
    uint32_t exponent = number % 20;
    return sums(number) && kept(number % 10000) && (int)power(2, exponent) == 1 << exponent;
}

int main(void)
{
    check_for_ever(round, 8);
}
