/* Run the workers and say once a second how they fare. */
#include "kern.h"
#include "net.h"
#include "ppc.h"
#include "vm.h"
#include "work.h"

static struct worker workers[] = {
    {"checksums", work_checksums, 10, 4, 0, 0, 0, 0},
    {"lists", work_lists, 10, 3, 0, 0, 0, 0},
    {"trees", work_trees, 9, 4, 0, 0, 0, 0},
    {"copies", work_copies, 10, 3, 0, 0, 0, 0},
    {"counters", work_counters, 10, 2, 0, 0, 0, 0},
    {"counters", work_counters, 9, 2, 0, 0, 0, 0},
    {"counters", work_counters, 11, 3, 0, 0, 0, 0},
    {"atomics", work_atomics, 10, 2, 0, 0, 0, 0},
    {"atomics", work_atomics, 9, 3, 0, 0, 0, 0},
    {"paging", work_paging, 10, 5, 0, 0, 0, 0},
    {"paging", work_paging, 9, 7, 0, 0, 0, 0},
    {"sorting", work_sorting, 10, 5, 0, 0, 0, 0},
    {"strings", work_strings, 10, 4, 0, 0, 0, 0},
    {"expressions", work_expressions, 10, 3, 0, 0, 0, 0},
    {"messages", work_messages, 10, 2, 0, 0, 0, 0},
    {"numbers", work_numbers, 10, 5, 0, 0, 0, 0},
    {"packing", work_packing, 10, 4, 0, 0, 0, 0},
    {"registers", work_registers, 9, 25, 0, 0, 0, 0},
    {"registers", work_registers, 5, 15, 0, 0, 0, 0},
    {"background", work_background, 5, 20, 0, 0, 0, 0},
    {"background", work_background, 5, 30, 0, 0, 0, 0},
    {"forms", work_forms, 10, 3, 0, 0, 0, 0},
    {"forms", work_forms, 6, 4, 0, 0, 0, 0},
    {"floats", work_floats, 10, 3, 0, 0, 0, 0},
    {"floats", work_floats, 9, 4, 0, 0, 0, 0},
    {"files", work_files, 9, 6, 0, 0, 0, 0},
};

/* The programs that check, in processes of their own. */
static struct reporter {
    const char *name;
    uint32_t pid, ok, bad, seen, stalled;
} reporters[] = {
    {.name = "mach_init"}, {.name = "netclient"}, {.name = "fpwork"}, {.name = "fpwork"}, {.name = "filer"},    {.name = "pager"},
    {.name = "tracer"},    {.name = "kmodtest"},  {.name = "logcheck"}, {.name = "selftest"},
};

#define STALL_SECONDS 12
#define STALL_SECONDS_BACKGROUND 40 /* of threads that run when no other wants to */

static uint32_t work_round(void *argument)
{
    const struct worker *worker = argument;
    return worker->round(worker->rounds);
}

static uint32_t work_pause(void *argument)
{
    delay_ticks(((const struct worker *)argument)->pause);
    return 0;
}

static void work(void *argument)
{
    struct worker *worker = argument;
    for (;;) {
        if (!call_kept(work_round, worker)) {
            worker->bad++;
            printf("selfcheck: %s is wrong in round %u\n", worker->name, worker->rounds);
        }
        worker->rounds++;
        call_kept(work_pause, worker);
    }
}

void selfcheck_start(void)
{
    counters_init();
    messages_init();
    for (unsigned i = 0; i < countof(workers); i++)
        kernel_thread(workers[i].name, workers[i].priority, work, &workers[i]);
}

/* A program says what it has counted so far. */
bool selfcheck_report(const char *name, uint32_t pid, uint32_t ok, uint32_t bad)
{
    for (unsigned i = 0; i < countof(reporters); i++)
        if (strcmp(reporters[i].name, name) == 0 && (reporters[i].pid == 0 || reporters[i].pid == pid)) {
            reporters[i].pid = pid;
            if (bad > reporters[i].bad)
                printf("selfcheck: %s is wrong in round %u\n", name, ok + bad);
            reporters[i].ok = ok;
            reporters[i].bad = bad;
            return true;
        }
    return false;
}

/* Count a worker or a program that has done nothing for long as wrong, once each time. */
static uint32_t count_stall(const char *name, uint32_t limit, uint32_t done, uint32_t *seen, uint32_t *stalled)
{
    bool moved = done != *seen;
    *seen = done;
    *stalled = moved ? 0 : *stalled + 1;
    if (*stalled && *stalled % limit == 0)
        printf("selfcheck: %s has done nothing for %u seconds\n", name, *stalled);
    return *stalled / limit;
}

static uint32_t count_stalls(void)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < countof(workers); i++)
        count += count_stall(workers[i].name, workers[i].priority > 6 ? STALL_SECONDS : STALL_SECONDS_BACKGROUND,
                             workers[i].rounds, &workers[i].seen, &workers[i].stalled);
    for (unsigned i = 0; i < countof(reporters); i++)
        count += count_stall(reporters[i].name, STALL_SECONDS, reporters[i].ok, &reporters[i].seen, &reporters[i].stalled);
    return count;
}

static bool all_have_worked(void)
{
    for (unsigned i = 0; i < countof(reporters); i++)
        if (reporters[i].ok + reporters[i].bad == 0)
            return false;
    for (unsigned i = 0; i < countof(workers); i++)
        if (workers[i].rounds == 0)
            return false;
    return packets_sent() > 0;
}

static uint32_t report(void *unused)
{
    (void)unused;
    uint32_t ok = 0, bad = udp_bad + arp_bad + ipstat.bad_sum + ipstat.bad_length + registers_lost;
    for (unsigned i = 0; i < countof(workers); i++) {
        ok += workers[i].rounds - workers[i].bad;
        bad += workers[i].bad;
    }
    for (unsigned i = 0; i < countof(reporters); i++) {
        ok += reporters[i].ok;
        bad += reporters[i].bad;
    }
    bad += count_stalls();
    printf("selfcheck: %u ok, %u bad\n", ok, bad);
    return 0;
}

static void statistics(void)
{
    printf("statistics: %u switches, %u preemptions, %u page faults, %u packets, %u free pages\n", context_switches,
           preemptions, vm_faults, packets_sent(), vm_page_free_count);
}

void selfcheck(void *unused)
{
    (void)unused;
    while (!all_have_worked())
        delay_ticks(1);
    printf("system ready: %u threads\n", thread_count());
    provoke();
    for (uint32_t seconds = 1;; seconds++) {
        delay_ticks(HZ);
        call_kept(report, NULL);
        if (seconds % 10 == 0)
            statistics();
    }
}

void fill_random(uint32_t seed, void *data, uint32_t length)
{
    uint8_t *at = data;
    for (uint32_t i = 0; i < length; i++)
        at[i] = (uint8_t)random_next(&seed);
}
