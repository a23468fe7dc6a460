/* What csmith's programs lack: switches, calls by pointer, variadic calls, computed goto, non-local exits, … */

#include <stdarg.h>

int printf(const char *, ...);
int csmith_main(void);

#ifndef SEED
#define SEED 1
#endif
#ifdef NO_FLOAT
typedef int real;
#else
typedef double real;
#endif
#define NOINLINE __attribute__((noinline))

typedef struct { int a, b; long long c; real d; char e[SEED % 23 + 1]; } record;
typedef int (*operation)(int, int);

static volatile int hidden = SEED;

static NOINLINE int add(int a, int b) { return a + b + hidden; }
static NOINLINE int sub(int a, int b) { return a - b * hidden; }
static NOINLINE int mix(int a, int b) { return a ? mix(a / 2, b + a % 7) : b; }
static NOINLINE int twist(int a, int b) { return add(b, a ^ 0x55); } /* a tail call */
static const operation operations[] = { add, sub, mix, twist };

static NOINLINE int dense(unsigned n, int x)
{
    switch (n) {
    case 0: return x + hidden;
    case 1: x *= 3; /* falls through */
    case 2: return x - 7;
    case 3: return add(x, 5) * 2;
    case 4: return sub(x, x >> 3);
    case 5: x ^= hidden; break;
    case 7: x = mix(x & 255, x); break;
    case 8: return dense(n - 3, x + 1);
    case 9: x <<= SEED % 5; break;
    case 10: return operations[x & 3](x, 3);
    case 11: x = x % 13; break;
    }
    return x + 1;
}

static NOINLINE int sparse(int n)
{
    switch (n) {
    case -1000: return 1;
    case 5: return 2;
    case 77: return 3 + hidden;
    case 1000: return 4;
    case 65536: return 5;
    case 123456789: return add(n, 6);
    default: return n & 15;
    }
}

static NOINLINE int variadic(int count, ...)
{
    va_list list;
    int sum = 0;
    va_start(list, count);
    while (count--)
        sum = sum * 31 + (count & 1 ? (int)va_arg(list, real) : va_arg(list, int));
    va_end(list);
    return sum;
}

static NOINLINE record made(int a)
{
    record r = { a, a + 1, (long long)a * 1000003, a / (real)3, { (char)a } };
    return r;
}

static NOINLINE long long wide(record r, long long x)
{
    return r.a + x / (r.b | 1) + r.c % 17 + (long long)(r.d * 4) + r.e[0];
}

static NOINLINE real floating(real a, short b, int n)
{
    real sum = 0;
    for (int i = 0; i < n; i++)
        sum += (i & 1 ? a : (real)b) * i - (sum > 1000 ? sum / 2 : a / 4);
    return sum;
}

static NOINLINE int stacked(int n)
{
    volatile char *room = __builtin_alloca((unsigned)(n & 63) + 16);
    room[0] = (char)n;
    room[(n & 63) + 15] = (char)(n >> 3);
    return room[0] + mix(n & 31, 2) + room[(n & 63) + 15];
}

static NOINLINE int interpreter(const unsigned char *code)
{
    static void *const labels[] = { &&push, &&plus, &&times, &&call, &&end };
    int stack[16] = { 0 }, top = 0;
    goto *labels[*code];
push:
    stack[++top] = code[1];
    code += 2;
    goto *labels[*code];
plus:
    top--;
    stack[top] += stack[top + 1];
    goto *labels[*++code];
times:
    top--;
    stack[top] *= stack[top + 1];
    goto *labels[*++code];
call:
    stack[top] = operations[code[1] & 3](stack[top], SEED);
    code += 2;
    goto *labels[*code];
end:
    return stack[top];
}

#ifndef __clang__
static void *out[5];

static NOINLINE int deep(int n)
{
    if (n == 0)
        __builtin_longjmp(out, 1);
    return deep(n - 1) + 1;
}

static NOINLINE int leaves(int n)
{
    volatile int kept = n * 3;
    if (__builtin_setjmp(out) == 0)
        return deep(n & 7);
    return kept + hidden;
}
#else
static NOINLINE int leaves(int n) { return n; }
#endif

#ifndef NO_NESTED
static NOINLINE int nested(int n)
{
    int total = n;
    NOINLINE void inner(int x)
    {
        total += x;
        if (x > 0)
            inner(x - 1);
    }
    inner(n & 7);
    return total;
}
#else
static NOINLINE int nested(int n) { return n; }
#endif

static NOINLINE int many(int a, int b, int c, int d, int e, int f, int g, int h, int i, int j)
{
    int x = add(a, b), y = sub(c, d), z = add(e, f), w = sub(g, h), v = mix(i & 15, j);
    for (int n = 0; n < 3; n++) {
        int t = add(x, w);
        x = y + sub(z, v);
        y = t ^ a ^ b;
        z = add(v, c) - d;
        v = w + e - f;
        w = sub(t, g) + h;
    }
    return x ^ y ^ z ^ w ^ v ^ i ^ j;
}

int main(void)
{
    static const unsigned char code[] = { 0, 5, 0, 7, 1, 0, 3, 2, 3, 1, 3, 3, 4 };
    int sum = csmith_main();
    for (int i = 0; i < 14; i++)
        sum = sum * 17 + dense((unsigned)i, sum) + sparse(i * 77) + stacked(sum) + operations[i & 3](i & 31, sum);
    sum += variadic(4, 1, (real)2.0, SEED, (real)4.5) + leaves(sum) + nested(sum) + interpreter(code);
    sum += (int)wide(made(sum & 1023), sum) + (int)floating((real)1.5, 2, SEED % 11 + 3);
    sum += many(sum, 2, 3, sum >> 4, 5, 6, sum >> 8, 8, 9, 10) + sparse(1000) + sparse(123456789);
    printf("sum %d", sum);
    return sum;
}
