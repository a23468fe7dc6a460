/* Computations of many kinds in a process of its own, each checked by another way to its result. */
#include "libc.h"

#define N 200

static uint32_t values[N], copy[N];

static void sort(uint32_t *items, int low, int high)
{
    uint32_t pivot = items[(low + high) / 2];
    int i = low, j = high;
    while (i <= j) {
        while (items[i] < pivot)
            i++;
        while (items[j] > pivot)
            j--;
        if (i <= j) {
            uint32_t kept = items[i];
            items[i++] = items[j];
            items[j--] = kept;
        }
    }
    if (low < j)
        sort(items, low, j);
    if (i < high)
        sort(items, i, high);
}

static bool sorting(uint32_t seed)
{
    uint32_t sum = 0;
    for (int i = 0; i < N; i++)
        sum += values[i] = random_next(&seed);
    sort(values, 0, N - 1);
    for (int i = 0; i < N; i++)
        sum -= values[i];
    for (int i = 1; i < N; i++)
        if (values[i - 1] > values[i])
            return false;
    return sum == 0;
}

static bool primes(void)
{
    static uint8_t composite[1000];
    uint32_t count = 0;
    memset(composite, 0, sizeof composite);
    for (uint32_t i = 2; i < 1000; i++) {
        count += !composite[i];
        for (uint32_t j = i * i; j < 1000; j += i)
            composite[j] = 1;
    }
    return count == 168;
}

static bool memory(uint32_t seed)
{
    uint32_t *pages = vm_allocate(5 * 4096);
    uint32_t crc;
    if (pages == (void *)-1)
        return false;
    for (int i = 0; i < N; i++)
        copy[i] = pages[i * 25] = random_next(&seed);
    crc = crc32(0, copy, sizeof copy);
    sleep_ticks(1);
    for (int i = 0; i < N; i++)
        copy[i] = pages[i * 25];
    return vm_deallocate(pages) == 0 && crc == crc32(0, copy, sizeof copy);
}

/* The clock goes on (ticks that a late interrupt makes good may end a sleep early). */
static bool clock(void)
{
    uint32_t before[2], after[2];
    gettimeofday(before);
    sleep_ticks(3);
    gettimeofday(after);
    uint32_t passed = (after[0] - before[0]) * 1000000 + after[1] - before[1];
    return passed < 100000000;
}

static bool round(uint32_t number)
{
    uint32_t check = crc32(0, "123456789", 9);
    return check == 0xcbf43926u && sorting(number) && primes() && memory(number) && clock() && getpid() > 1;
}

int main(void)
{
    check_for_ever(round, 10);
}
