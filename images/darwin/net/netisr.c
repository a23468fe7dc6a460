/* The network's software interrupt: what run_netisr serves is posted as bits in `netisr`. */
#include "kern.h"
#include "net.h"
#include "ppc.h"

volatile unsigned netisr;
uint32_t netisr_runs;

/* Post bits and wake the network thread. */
void setsoftnet(unsigned bits)
{
    hw_atomic_or(&netisr, bits);
    thread_wakeup((void *)&netisr);
}

/* Serve every queue whose bit is set, in a fixed order, until no bit is left. */
void run_netisr(void)
{
    netisr_runs++;
    while (netisr != 0) {
        if (netisr & 1u << NETISR_IP) {
            hw_atomic_and(&netisr, ~(1u << NETISR_IP));
            ipintr();
        }
        if (netisr & 1u << NETISR_ARP) {
            hw_atomic_and(&netisr, ~(1u << NETISR_ARP));
            arpintr();
        }
        if (netisr & 1u << NETISR_NS) {
            hw_atomic_and(&netisr, ~(1u << NETISR_NS));
            nsintr();
        }
        if (netisr & 1u << NETISR_IPV6) {
            hw_atomic_and(&netisr, ~(1u << NETISR_IPV6));
            ip6intr();
        }
    }
}

static uint32_t serve(void *unused)
{
    (void)unused;
    run_netisr();
    return 0;
}

void netisr_thread(void *unused)
{
    (void)unused;
    for (;;) {
        spl_t s = splnet();
        while (netisr == 0)
            tsleep((void *)&netisr, 0);
        splx(s);
        call_kept(serve, NULL);
    }
}
