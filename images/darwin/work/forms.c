/* What the routines of forms.S must give, by plain means. */
#include "kern.h"
#include "ppc.h"
#include "work.h"

#define WORDS (RED_ZONE / 4)

uint32_t red_zone_mix(const uint32_t *words, uint32_t rounds);
uint32_t red_zone_digits(uint32_t n);
void string_move(void *to, const void *from, uint32_t n);
void string_move_far(void *to, const void *from, uint32_t n, uint32_t offset);
void string_move_20(void *to, const void *from);
uint32_t string_hash(const uint8_t *text, uint32_t n);
void many_move(uint32_t *to, const uint32_t *from, uint32_t times);
uint32_t many_sum(const uint32_t *from);
uint32_t pic_entry(uint32_t n);
uint32_t pic_distance(void);
uint32_t dispatch(uint32_t operation, uint32_t a, uint32_t b);
uint32_t machine_run(const uint8_t *program, uint32_t a);
uint32_t euclid(uint32_t a, uint32_t b);
uint32_t tail_table(uint32_t which, uint32_t a, uint32_t b);
uint32_t condition_mix(uint32_t a, uint32_t b);

static bool red_zone_is_right(uint32_t seed)
{
    uint32_t words[WORDS], mixed[WORDS], sum = 0, rounds = seed % 40;
    fill_random(seed, words, sizeof words);
    bcopy(words, mixed, sizeof words);
    for (uint32_t round = 0; round < rounds; round++) {
        uint32_t carried = mixed[0];
        for (uint32_t i = 1; i < WORDS; i++)
            mixed[i] = carried = rotl(carried, 5) + mixed[i];
        mixed[0] = carried;
    }
    for (uint32_t i = 0; i < WORDS; i++)
        sum += mixed[i] * (2 * i + 1);
    return red_zone_mix(words, rounds) == sum;
}

static bool digits_are_right(uint32_t seed)
{
    uint32_t n = seed * 7919 % 100000000, packed = 0;
    char text[12];
    snprintf(text, sizeof text, "%u", n);
    for (const char *at = text; *at; at++)
        packed = packed << 4 | (uint32_t)(*at - '0');
    return red_zone_digits(n) == packed;
}

static bool guarded_move(uint32_t seed, uint32_t n)
{
    uint8_t from[96], to[96], wanted[96];
    uint32_t at = seed % 7, offset = seed % 40;
    fill_random(seed, from, sizeof from);
    memset(to, 0xee, sizeof to);
    memset(wanted, 0xee, sizeof wanted);
    for (uint32_t i = 0; i < n; i++)
        wanted[at + i] = from[i];
    string_move(to + at, from, n);
    bool right = memcmp(to, wanted, sizeof to) == 0;
    memset(to, 0xee, sizeof to);
    string_move_far(to, from, n, offset);
    right &= memcmp(to + offset, from + offset, n) == 0 && to[offset + n] == 0xee;
    string_move_20(to, from + 3);
    return right && memcmp(to, from + 3, 20) == 0;
}

static uint32_t word_at(const uint8_t *text, uint32_t n, uint32_t at)
{
    uint32_t word = 0;
    for (uint32_t i = at; i < at + 4; i++)
        word = word << 8 | (i < n ? text[i] : 0);
    return word;
}

static bool hash_is_right(uint32_t seed)
{
    uint8_t text[16];
    uint32_t n = seed % 17, sum[4];
    fill_random(seed, text, sizeof text);
    for (uint32_t i = 0; i < 4; i++)
        sum[i] = 4 * i < n ? rotl(word_at(text, n, 4 * i), 7 * i) : 0;
    return string_hash(text, n) == (sum[0] ^ sum[1]) + (sum[2] ^ sum[3]);
}

static bool many_are_right(uint32_t seed)
{
    uint32_t from[19 * 3], to[19 * 3 + 1];
    fill_random(seed, from, sizeof from);
    to[19 * 3] = seed;
    many_move(to, from, 3);
    return memcmp(from, to, sizeof from) == 0 && to[19 * 3] == seed &&
           many_sum(from + 5) == from[5] - from[6] + from[7] - from[8] + from[9] - from[10];
}

static bool pic_is_right(void)
{
    static const uint8_t primes[] = {2, 3, 5, 7, 11, 13, 17, 19};
    uint32_t n = random_next(&(uint32_t){per_proc_info.ticks}) % 8;
    return pic_entry(n) == primes[n] && pic_entry(n + 8) == primes[n] && pic_distance() == 8;
}

static uint32_t leading_zeros(uint32_t word)
{
    uint32_t n = 0;
    for (; n < 32 && !(word & 0x80000000u >> n); n++)
        ;
    return n;
}

/* The compiler makes a jump table of this. */
static uint32_t dispatched(uint32_t operation, uint32_t a, uint32_t b)
{
    switch (operation) {
    case 0:
        return a + b;
    case 1:
        return a - b;
    case 2:
        return a * b;
    case 3:
        return ~(a & b);
    case 4:
        return a << (b & 31) | (b & 31 ? a >> (32 - (b & 31)) : 0);
    case 5:
        return a > b ? a : b;
    case 6:
        return leading_zeros(~(a ^ b));
    default:
        while (b) {
            uint32_t rest = a % b;
            a = b;
            b = rest;
        }
        return a;
    }
}

static bool dispatch_is_right(uint32_t seed)
{
    bool right = true;
    for (uint32_t operation = 0; operation < 8; operation++) {
        uint32_t a = random_next(&seed), b = random_next(&seed) >> (a & 15);
        right &= dispatch(operation, a, b) == dispatched(operation, a, b);
    }
    return right;
}

static uint32_t interpreted(const uint8_t *program, uint32_t a)
{
    for (; *program; program++)
        a = *program == 1 ? a * 2 : *program == 2 ? a + 1 : *program == 3 ? ~a : *program == 4 ? a * a : a << 16 | a >> 16;
    return a;
}

static bool machine_is_right(uint32_t seed)
{
    uint8_t program[24];
    uint32_t n = seed % 23;
    for (uint32_t i = 0; i < n; i++)
        program[i] = (uint8_t)(1 + random_next(&seed) % 5);
    program[n] = 0;
    return machine_run(program, seed) == interpreted(program, seed);
}

static uint32_t tail_lower(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t tail_spread(uint32_t a, uint32_t b)
{
    return (a & 0xffff0000) | b >> 16;
}

static uint32_t tail_mean(uint32_t a, uint32_t b)
{
    return (a & b) + ((a ^ b) >> 1);
}

uint32_t (*const tail_functions[4])(uint32_t, uint32_t) = {euclid, tail_lower, tail_spread, tail_mean};

static bool tails_are_right(uint32_t seed)
{
    uint32_t a = random_next(&seed), b = random_next(&seed), mean = (uint32_t)(((uint64_t)a + b) >> 1);
    return tail_table(0, a, b) == dispatched(7, a, b) && tail_table(1, a, b) == (a < b ? a : b) &&
           tail_table(2, a, b) == ((a >> 16) << 16 | b >> 16) && tail_table(3, a, b) == mean;
}

static bool conditions_are_right(uint32_t seed)
{
    bool right = true;
    for (int i = 0; i < 6; i++) {
        uint32_t a = i ? random_next(&seed) : 0, b = i & 1 ? random_next(&seed) : 0;
        uint32_t wanted = (uint32_t)((int)a < (int)b && a < b) << 3 | (uint32_t)(a > b || (int)a >= 0) << 2 |
                          ((a ^ b) >> 31) << 1 | ((a == 0) == (b == 0));
        right &= condition_mix(a, b) == wanted;
    }
    return right;
}

bool work_forms(uint32_t number)
{
    bool right = red_zone_is_right(number) && digits_are_right(number) && hash_is_right(number);
    right &= guarded_move(number, number % 33) && many_are_right(number) && pic_is_right();
    right &= dispatch_is_right(number) && machine_is_right(number) && tails_are_right(number);
    return right && conditions_are_right(number);
}
