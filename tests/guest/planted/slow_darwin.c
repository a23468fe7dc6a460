/* Slow code, planted: each has a thread, or a callout, that begins when `planted` has its number. */
#include "kern.h"
#include "ppc.h"

#define NOINLINE __attribute__((noinline))
enum { LIST = 1, UNALIGNED, LOCK, TIMER, STRINGS };
volatile int planted;
volatile uint32_t planted_sum, planted_requests;

struct entry {
    struct entry *next;
    uint32_t port;
};
static struct entry entries[4000];
static uint8_t packet[32768 + 8], copied[32768 + 8];
static char path[1200];
static struct mutex table_lock;
static struct callout callouts[40];

NOINLINE struct entry *look_up_port(uint32_t port)
{
    struct entry *one = entries;
    while (one && one->port != port)
        one = one->next;
    return one;
}

NOINLINE void copy_packet(void)
{
    for (unsigned at = 0; at < sizeof packet - 8; at++)
        *(volatile uint8_t *)(copied + at + 3) = packet[at + 1];
}

NOINLINE void rebuild_table(void)
{
    for (uint32_t round = 0; round < 3000000; round++)
        planted_sum += round;
}

NOINLINE uint32_t hash_path(void)
{
    uint32_t hash = 0;
    for (unsigned at = 0; at < strlen(path); at++)
        hash = hash * 31 + path[at];
    return hash;
}

NOINLINE void planted_request(void)
{
    planted_requests++;
    switch (planted) {
    case LIST:
        for (unsigned times = 0; times < 50; times++)
            planted_sum += look_up_port(3900 + times % 90)->port;
        break;
    case UNALIGNED:
        for (unsigned times = 0; times < 20; times++)
            copy_packet();
        break;
    case LOCK:
        mutex_lock(&table_lock);
        planted_sum++;
        mutex_unlock(&table_lock);
        break;
    case STRINGS:
        planted_sum += hash_path();
        break;
    }
}

static void requests(void *unused)
{
    (void)unused;
    for (;;) {
        if (planted && planted != TIMER)
            planted_request();
        delay_ticks(1);
    }
}

static void keeper(void *unused)
{
    (void)unused;
    for (;;) {
        if (planted == LOCK) {
            mutex_lock(&table_lock);
            rebuild_table();
            mutex_unlock(&table_lock);
        }
        delay_ticks(1);
    }
}

NOINLINE void refresh_statistics(void *callout)
{
    if (planted == TIMER)
        for (unsigned round = 0; round < 12000; round++)
            planted_sum += round;
    timeout(callout, refresh_statistics, callout, 1);
}

void planted_start(void)
{
    for (unsigned at = 0; at < countof(entries); at++) {
        entries[at].port = at;
        entries[at].next = at + 1 < countof(entries) ? &entries[at + 1] : NULL;
    }
    for (unsigned at = 0; at < sizeof path - 1; at++)
        path[at] = 'a' + at % 26;
    mutex_init(&table_lock);
    kernel_thread("requests", 14, requests, NULL);
    kernel_thread("keeper", 13, keeper, NULL);
    for (unsigned at = 0; at < countof(callouts); at++)
        timeout(&callouts[at], refresh_statistics, &callouts[at], 1);
}
