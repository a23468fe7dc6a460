/*
 * run_netisr as a callback system: for each bit that is posted in `netisr`, the routine that is
 * registered for it is called. As long as it is not enabled, the kernel's own run_netisr runs, which
 * would go round for ever when a bit is posted that it does not know.
 *
 *     kgdbpatch apply darwin run_netisr --c examples/netisr/dispatcher.c --replace
 */
#include "netisr.h"

struct netisr_slot {
    netisr_handler *volatile handler;
    unsigned served;
};
struct netisr_slot netisr_slots[32];
volatile unsigned netisr_enabled;
unsigned netisr_dispatched; /* runs by way of the table */
unsigned netisr_unknown;    /* bits that nobody was registered for */

/* Register a routine for a bit: 0, or -1 where the bit has one. */
int netisr_register(unsigned bit, netisr_handler *handler)
{
    volatile unsigned *slot = (volatile unsigned *)&netisr_slots[bit & 31].handler;
    return bit < 32 && hw_compare_and_store(0, (unsigned)handler, slot) ? 0 : -1;
}

int netisr_unregister(unsigned bit, netisr_handler *handler)
{
    volatile unsigned *slot = (volatile unsigned *)&netisr_slots[bit & 31].handler;
    return bit < 32 && hw_compare_and_store((unsigned)handler, 0, slot) ? 0 : -1;
}

void dispatcher(void)
{
    if (!netisr_enabled) {
        KGP_ORIGINAL(void, void)();
        return;
    }
    for (unsigned posted; (posted = netisr) != 0;) {
        unsigned bit = 31 - (unsigned)__builtin_clz(posted);
        netisr_handler *handler = netisr_slots[bit].handler;
        hw_atomic_and(&netisr, ~(1u << bit));
        if (handler) {
            handler(bit);
            netisr_slots[bit].served++;
        } else {
            netisr_unknown++;
        }
    }
    netisr_dispatched++;
}
