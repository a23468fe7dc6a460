/* Heathrow's interrupt controller in macio: 64 sources, each an edge that is latched. */
#include "kern.h"
#include "ppc.h"

#define SOURCES 64
#define BANK(irq) ((irq) < 32 ? 0x20u : 0x10u)
#define EVENTS 0x0u
#define MASK 0x4u
#define CLEAR 0x8u

static vm_offset_t pic_base;
static struct {
    interrupt_handler_t *handler;
    void *argument;
    uint32_t count;
} sources[SOURCES];
static uint32_t masks[2];
uint32_t external_interrupts, spurious_interrupts;

void pic_init(vm_offset_t macio)
{
    pic_base = macio;
    store_reversed(pic_base + 0x10 + MASK, 0);
    store_reversed(pic_base + 0x20 + MASK, 0);
    store_reversed(pic_base + 0x10 + CLEAR, ~0u);
    store_reversed(pic_base + 0x20 + CLEAR, ~0u);
}

void pic_enable(int irq, interrupt_handler_t *handler, void *argument)
{
    spl_t s = splhigh();
    sources[irq].handler = handler;
    sources[irq].argument = argument;
    masks[irq / 32] |= 1u << irq % 32;
    store_reversed(pic_base + BANK(irq) + MASK, masks[irq / 32]);
    splx(s);
}

static void pic_serve(int first, uint32_t events)
{
    while (events) {
        int irq = first + 31 - ffsbit(events);
        events &= ~(1u << (irq - first));
        sources[irq].count++;
        if (sources[irq].handler)
            sources[irq].handler(sources[irq].argument);
        else
            spurious_interrupts++;
    }
}

/* Serve every source that is pending; called with interrupts off. */
void pic_dispatch(void)
{
    external_interrupts++;
    for (int first = 0; first < SOURCES; first += 32) {
        uint32_t events = load_reversed(pic_base + BANK(first) + EVENTS) & masks[first / 32];
        store_reversed(pic_base + BANK(first) + CLEAR, events);
        pic_serve(first, events);
    }
}
