/*
 * Read the kernel's log and write each line, with date, host and source, to the console and to
 * /var/log/system.log; a log that has grown large becomes /var/log/system.log.0.
 */
#include "libc.h"

#define LINE_MAX 480
#define LOG_MAX 200000

static const char log_path[] = "/var/log/system.log", old_path[] = "/var/log/system.log.0";
static char host[64];
static char line[LINE_MAX + 1];
static size_t length;
static char out[4096];
static size_t pending;

static bool leap(uint32_t year)
{
    return year % 4 == 0 && (year % 100 || year % 400 == 0);
}

static uint32_t days_in(uint32_t month, uint32_t year)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month] + (month == 1 && leap(year));
}

/* "Nov 23 05:36:05": universal time. */
static size_t put_date(char *to, size_t size)
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    uint32_t time[2], year = 1970, month = 0;
    gettimeofday(time);
    uint32_t days = time[0] / 86400, second = time[0] % 86400;
    while (days >= 365u + leap(year))
        days -= 365u + leap(year++);
    while (days >= days_in(month, year))
        days -= days_in(month++, year);
    return (size_t)format(to, size, "%s %02u %02u:%02u:%02u", months[month], days + 1, second / 3600,
                          second / 60 % 60, second % 60);
}

static void rotate(void)
{
    int log = open(log_path, O_CREAT), size = file_size(log);
    close(log);
    if (size > LOG_MAX)
        rename(log_path, old_path);
}

static void flush(int console)
{
    int log = open(log_path, O_CREAT | O_APPEND);
    write(console, out, pending);
    write(log, out, pending);
    close(log);
    pending = 0;
    rotate();
}

static void put_line(int console)
{
    if (pending + 128 + length > sizeof out)
        flush(console);
    pending += put_date(out + pending, 32);
    pending += (size_t)format(out + pending, 96, " %s mach_kernel: ", host);
    memcpy(out + pending, line, length);
    pending += length;
    out[pending++] = '\n';
    length = 0;
}

int main(void)
{
    int log = open("/dev/klog", 0), console = open("/dev/console", 0);
    char chunk[256];
    sysctl(NULL, host);
    for (;;) {
        int n = read(log, chunk, sizeof chunk);
        for (int i = 0; i < n; i++) {
            if (chunk[i] != '\n')
                line[length++] = chunk[i];
            if (chunk[i] == '\n' || length == LINE_MAX)
                put_line(console);
        }
        if (pending && (file_size(log) == 0 || pending > sizeof out / 2))
            flush(console);
    }
}
