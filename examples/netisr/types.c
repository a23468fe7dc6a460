/*
 * Two packet types that the kernel does not know: their frames are taken from those that come in, and
 * served in the network thread, on the bits that register_types is given.
 *
 *     kgdbpatch apply darwin ether_input --c examples/netisr/types.c
 *     kgdbpatch call darwin types:register_types 0 1
 */
#include "netisr.h"

struct type {
    struct ifqueue queue;
    unsigned received, served, bad, dropped, next;
    unsigned bit;
};
struct type types_known[TYPES];
volatile unsigned types_registered;
volatile unsigned types_every = 25; /* packets between two lines of statistics */

static void serve(unsigned number)
{
    struct type *type = &types_known[number];
    struct mbuf *m;

    while ((m = if_dequeue(&type->queue)) != 0) {
        const struct packet *packet = (const struct packet *)m->data;
        if (m->length != sizeof *packet || packet->sum != packet_sum(packet) || packet->sequence < type->next)
            type->bad++;
        type->next = packet->sequence + 1;
        m_free(m);
        if (++type->served % types_every == 0)
            kgp_printf("netisr: type 0x%04x on bit %u: %u received, %u served, %u bad\n", FIRST_TYPE + number,
                       type->bit, type->received, type->served, type->bad);
    }
}

static void serve_first(unsigned bit)
{
    (void)bit;
    serve(0);
}

static void serve_second(unsigned bit)
{
    (void)bit;
    serve(1);
}

/* Serve the types on two bits: 0, or -1 where one of them is somebody else's. */
int register_types(unsigned first, unsigned second)
{
    if (netisr_register(first, serve_first) != 0)
        return -1;
    if (netisr_register(second, serve_second) != 0) {
        netisr_unregister(first, serve_first);
        return -1;
    }
    types_known[0].bit = first;
    types_known[1].bit = second;
    types_registered = 1;
    return 0;
}

/* No more frames are taken; what waits is served by now, or given back. Returns how many those are. */
int unregister_types(void)
{
    int left = 0;
    struct mbuf *m;

    types_registered = 0;
    netisr_unregister(types_known[0].bit, serve_first);
    netisr_unregister(types_known[1].bit, serve_second);
    for (unsigned n = 0; n < TYPES; n++)
        for (; (m = if_dequeue(&types_known[n].queue)) != 0; left++)
            m_free(m);
    return left;
}

/* At ether_input(m), where frames come in, interrupts off: those of the two types are not the kernel's. */
void types(struct kgp_regs *regs)
{
    struct mbuf *m = (struct mbuf *)regs->r3;
    unsigned number = ((const struct ether_header *)m->data)->type - FIRST_TYPE;
    struct type *type = &types_known[number];

    if (!types_registered || number >= TYPES)
        return;
    m_adj(m, sizeof(struct ether_header));
    type->received++;
    if (if_enqueue(&type->queue, m))
        setsoftnet(1u << type->bit);
    else
        type->dropped++;
    kgp_return(0);
}
