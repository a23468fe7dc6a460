/* Arithmetic: recursion, primes, greatest common divisors, long numbers, matrices. */
#include "kern.h"
#include "ppc.h"
#include "work.h"

#define LIMBS 8

static uint32_t ackermann(uint32_t m, uint32_t n)
{
    if (m == 0)
        return n + 1;
    if (n == 0)
        return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

static uint32_t fibonacci(uint32_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint32_t fibonacci_loop(uint32_t n)
{
    uint32_t a = 0, b = 1;
    while (n--) {
        uint32_t next = a + b;
        a = b;
        b = next;
    }
    return a;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint32_t sieve(uint32_t limit)
{
    uint8_t composite[512];
    uint32_t count = 0;
    bzero(composite, sizeof composite);
    for (uint32_t n = 2; n < limit; n++) {
        if (composite[n])
            continue;
        count++;
        for (uint32_t multiple = n * n; multiple < limit; multiple += n)
            composite[multiple] = 1;
    }
    return count;
}

static uint32_t hanoi(uint32_t discs, int from, int to, int spare)
{
    if (discs == 0)
        return 0;
    return hanoi(discs - 1, from, spare, to) + 1 + hanoi(discs - 1, spare, to, from);
}

static uint32_t popcount(uint32_t word)
{
    uint32_t count = 0;
    for (; word; word &= word - 1)
        count++;
    return count;
}

/* (a + b) - b is a, carries and all; (a + a) is a shifted. */
static bool long_numbers(uint32_t seed)
{
    uint32_t a[LIMBS], b[LIMBS], sum[LIMBS], back[LIMBS], twice[LIMBS];
    fill_random(seed, a, sizeof a);
    fill_random(~seed, b, sizeof b);
    uint32_t carry = big_add(sum, a, b, LIMBS), borrow = big_sub(back, sum, b, LIMBS);
    uint32_t top = big_add(twice, a, a, LIMBS);
    for (int i = 0; i < LIMBS; i++)
        if (twice[i] != (a[i] << 1 | (i ? a[i - 1] >> 31 : 0)))
            return false;
    return carry == borrow && memcmp(a, back, sizeof a) == 0 && top == a[LIMBS - 1] >> 31;
}

static void matrix_multiply(const int a[4][4], const int b[4][4], int out[4][4])
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            out[i][j] = 0;
            for (int k = 0; k < 4; k++)
                out[i][j] += a[i][k] * b[k][j];
        }
}

static bool matrices(uint32_t seed)
{
    int a[4][4], b[4][4], c[4][4], ab[4][4], bc[4][4], left[4][4], right[4][4];
    for (int i = 0; i < 16; i++) {
        a[i / 4][i % 4] = (int)(random_next(&seed) % 20) - 10;
        b[i / 4][i % 4] = (int)(random_next(&seed) % 20) - 10;
        c[i / 4][i % 4] = (int)(random_next(&seed) % 20) - 10;
    }
    matrix_multiply(a, b, ab);
    matrix_multiply(ab, c, left);
    matrix_multiply(b, c, bc);
    matrix_multiply(a, bc, right);
    return memcmp(left, right, sizeof left) == 0;
}

bool work_numbers(uint32_t number)
{
    uint32_t n = number % 12;
    bool right = ackermann(2, n % 6) == 2 * (n % 6) + 3 && fibonacci(n) == fibonacci_loop(n);
    right &= gcd(number * 6, 54) == 6 * gcd(number, 9) && sieve(500) == 95;
    right &= hanoi(n % 8, 0, 2, 1) == (1u << n % 8) - 1;
    right &= popcount(number) + popcount(~number) == 32 && byte_reverse(byte_reverse(number)) == number;
    right &= rotl(rotl(number, 5), 27) == number && ffsbit(1u << n) == (int)(31 - n);
    return right && long_numbers(number) && matrices(number);
}
