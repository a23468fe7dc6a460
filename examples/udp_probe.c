/*
 * Print what goes out through UDP on Linux. Put at the entry of udp_sendmsg, the probe gets that
 * function's own arguments.
 *
 *     kgdbpatch apply linux udp_sendmsg --c examples/udp_probe.c
 */
#include <stddef.h>

#define KERN_INFO "\0016"

struct sock;
struct msghdr;

extern int _printk(const char *format, ...);

void udp_probe(struct sock *sk, struct msghdr *msg, size_t len)
{
    static int counter;

    (void)sk;
    (void)msg;
    counter++;
    _printk(KERN_INFO "KernMonitor/udp_probe: udp_sendmsg length: %u | %d\n", (unsigned int)len, counter);
}
