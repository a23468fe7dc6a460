/* The clock: the decrementer's ticks, callouts, the time of day. */
#include "kern.h"
#include "ppc.h"

static uint32_t frequency;      /* of the time base, in Hz */
static uint32_t tick_length;    /* in time base units */
static uint64_t next_tick;
static uint64_t second_start;   /* time base at which clock_seconds began */
static uint32_t clock_seconds;  /* since 1970 */
static struct callout *callouts;

static void clock_advance(uint64_t now)
{
    while (now - second_start >= frequency) {
        second_start += frequency;
        clock_seconds++;
    }
}

/* Arm the decrementer for the next tick that is still to come; how many have passed. */
static int clock_rearm(uint64_t now)
{
    int passed = 0;
    while (next_tick <= now) {
        next_tick += tick_length;
        passed++;
    }
    set_decrementer((uint32_t)(next_tick - now));
    return passed;
}

void hardclock(bool interruptible)
{
    uint64_t now = mach_absolute_time();
    int passed = clock_rearm(now);
    clock_advance(now);
    if (!interruptible)
        panic("a clock interrupt with interrupts off");
    per_proc_info.ticks += passed;
    for (; passed > 0; passed--) {
        softclock();
        thread_quantum_expire();
    }
}

void clock_init(void)
{
    frequency = PE_boot_number("timebase", 0);
    if (frequency < HZ)
        panic("the boot arguments do not say the time base's frequency (timebase=)");
    tick_length = frequency / HZ;
    clock_seconds = PE_boot_number("epoch", 0);
    second_start = mach_absolute_time();
    next_tick = second_start + tick_length;
    set_decrementer(tick_length);
}

void microtime(uint32_t *seconds, uint32_t *micros)
{
    spl_t s = splclock();
    uint64_t now = mach_absolute_time();
    clock_advance(now);
    *seconds = clock_seconds;
    *micros = (uint32_t)(now - second_start) / (frequency / 10000) * 100;
    splx(s);
}

/* Call function(argument) from the clock interrupt after `ticks`. */
void timeout(struct callout *callout, void (*function)(void *), void *argument, int ticks)
{
    spl_t s = splclock();
    struct callout **link = &callouts;
    while (*link && (*link)->ticks <= ticks) {
        ticks -= (*link)->ticks;
        link = &(*link)->next;
    }
    callout->function = function;
    callout->argument = argument;
    callout->ticks = ticks;
    callout->next = *link;
    if (callout->next)
        callout->next->ticks -= ticks;
    *link = callout;
    splx(s);
}

/* Take a callout back; whether it was still to come. */
bool untimeout(struct callout *callout)
{
    spl_t s = splclock();
    struct callout **link = &callouts;
    while (*link && *link != callout)
        link = &(*link)->next;
    bool found = *link != NULL;
    if (found) {
        *link = callout->next;
        if (callout->next)
            callout->next->ticks += callout->ticks;
    }
    splx(s);
    return found;
}

void softclock(void)
{
    if (callouts)
        callouts->ticks--;
    while (callouts && callouts->ticks <= 0) {
        struct callout *callout = callouts;
        callouts = callout->next;
        callout->function(callout->argument);
    }
}

static bool is_leap(uint32_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static uint32_t days_in(uint32_t month, uint32_t year)
{
    switch (month) {
    case 1:
        return is_leap(year) ? 29 : 28;
    case 3:
    case 5:
    case 8:
    case 10:
        return 30;
    default:
        return 31;
    }
}

/* Write "Nov 23 05:36:05" (16 bytes with the zero): universal time. */
void format_time(uint32_t seconds, char *out)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    uint32_t days = seconds / 86400, year = 1970, month = 0;
    seconds %= 86400;
    while (days >= (is_leap(year) ? 366u : 365u))
        days -= is_leap(year++) ? 366 : 365;
    while (days >= days_in(month, year))
        days -= days_in(month++, year);
    snprintf(out, 16, "%.3s %02u %02u:%02u:%02u", &months[3 * month], days + 1, seconds / 3600,
             seconds / 60 % 60, seconds % 60);
}
