/*
 * The interface: frames that are sent, or come from the wire, wait in a ring; the device's interrupt
 * (the VIA's timer stands for the time on the wire) hands them to the protocols.
 */
#include "kern.h"
#include "net.h"
#include "ppc.h"

#define WIRE_MICROSECONDS 300

static struct ifqueue ring;
uint32_t if_interrupts, if_frames;

static void if_interrupt(void *unused)
{
    struct mbuf *m;
    (void)unused;
    if_interrupts++;
    while ((m = if_dequeue(&ring)) != NULL) {
        if_frames++;
        ether_input(m);
    }
}

/* Put a frame on the wire; false, and it is freed, when the ring is full. */
bool if_transmit(struct mbuf *m)
{
    spl_t s = splimp();
    bool idle = ring.length == 0;
    bool sent = if_enqueue(&ring, m);
    if (sent && idle)
        via_alarm(WIRE_MICROSECONDS);
    splx(s);
    return sent;
}

void if_init(void)
{
    via_set_handler(if_interrupt);
}
