/*
 * printf and the message buffer.
 *
 * printf may be called anywhere: it formats on its caller's stack, appends with interrupts off and
 * wakes whoever reads /dev/klog. That is syslogd, a process, which writes whole lines to the console
 * and to /var/log/system.log: "Nov 23 05:36:05 host mach_kernel: text". A dying kernel does it itself.
 */
#include "kern.h"
#include "ppc.h"

#define PRINTF_MAX 512
#define LINE_MAX 480

struct msgbuf msgbuf;
char hostname[64];
static char line[LINE_MAX + 1];
static size_t line_length;

/* Append to the message buffer; what finds no room is counted and dropped. */
void msgbuf_write(const char *text, size_t length)
{
    spl_t s = splhigh();
    for (size_t i = 0; i < length; i++) {
        uint32_t next = msgbuf.msg_bufx + 1 == MSG_BSIZE ? 0 : msgbuf.msg_bufx + 1;
        if (next == msgbuf.msg_bufr) {
            msgbuf.msg_lost += length - i;
            break;
        }
        msgbuf.msg_bufc[msgbuf.msg_bufx] = text[i];
        msgbuf.msg_bufx = next;
    }
    splx(s);
}

/* Take the oldest character out of the message buffer, or -1. */
int log_getc(void)
{
    int c = -1;
    spl_t s = splhigh();
    if (msgbuf.msg_bufr != msgbuf.msg_bufx) {
        c = (unsigned char)msgbuf.msg_bufc[msgbuf.msg_bufr];
        msgbuf.msg_bufr = msgbuf.msg_bufr + 1 == MSG_BSIZE ? 0 : msgbuf.msg_bufr + 1;
    }
    splx(s);
    return c;
}

int vprintf(const char *format, va_list args)
{
    char text[PRINTF_MAX];
    int length = vsnprintf(text, sizeof text, format, args);
    msgbuf_write(text, length < PRINTF_MAX ? length : PRINTF_MAX - 1);
    thread_wakeup(&msgbuf);
    return length;
}

int printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vprintf(format, args);
    va_end(args);
    return length;
}

static void console_put(char c, void *unused)
{
    (void)unused;
    cnputc(c);
}

static void console_write(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        cnputc(text[i]);
}

/* Print straight to the console, past the log: for a kernel that is dying. */
void kprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    _doprnt(format, args, console_put, NULL);
    va_end(args);
}

static void syslog_line(void)
{
    char text[128], date[16];
    uint32_t seconds, micros;
    microtime(&seconds, &micros);
    format_time(seconds, date);
    int length = snprintf(text, sizeof text, "%s %s mach_kernel: ", date, hostname);
    console_write(text, length);
    line[line_length++] = '\n';
    console_write(line, line_length);
    line_length = 0;
}

/* Print all whole lines that the message buffer holds. */
static void syslog_drain(void)
{
    int c;
    while ((c = log_getc()) >= 0) {
        if (c != '\n')
            line[line_length++] = (char)c;
        if (c == '\n' || line_length == LINE_MAX)
            syslog_line();
    }
}

/* Wait until the message buffer holds something, or something was lost. */
void msgbuf_wait(void)
{
    spl_t s = splhigh();
    while (msgbuf.msg_bufr == msgbuf.msg_bufx && msgbuf.msg_lost == 0)
        tsleep(&msgbuf, 0);
    uint32_t lost = msgbuf.msg_lost;
    msgbuf.msg_lost = 0;
    splx(s);
    if (lost)
        printf("(%u bytes of messages lost)\n", lost);
}

/* How many bytes wait for a reader. */
uint32_t msgbuf_waiting(void)
{
    spl_t s = splhigh();
    uint32_t waiting = (msgbuf.msg_bufx + MSG_BSIZE - msgbuf.msg_bufr) % MSG_BSIZE;
    splx(s);
    return waiting;
}

/* Print what is left, a beginning of a line too: the kernel is dying. */
void log_flush(void)
{
    splhigh();
    cnputc('\n'); /* syslogd may have been interrupted in the middle of a line */
    syslog_drain();
    if (line_length)
        syslog_line();
}

void panic(const char *format, ...)
{
    va_list args;
    log_flush();
    kprintf("panic(cpu 0): ");
    va_start(args, format);
    _doprnt(format, args, console_put, NULL);
    va_end(args);
    kprintf("\nWe are hanging here...\n");
    machine_halt();
}
