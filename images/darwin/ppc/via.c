/* The 6522 (VIA) in macio: its second timer gives an interrupt after a time. */
#include "kern.h"
#include "ppc.h"

#define VIA 0x16000u
#define REGISTER(n) ((n) * 0x200u)
#define T2_LOW REGISTER(8)
#define T2_HIGH REGISTER(9)
#define ACR REGISTER(11)
#define IFR REGISTER(13)
#define IER REGISTER(14)
#define IER_SET 0x80
#define T2_BIT 0x20
#define CLOCK_NUMERATOR 4700000u        /* 4.7 MHz / 6 */
#define CLOCK_DENOMINATOR 6000000u
#define VIA_IRQ 0x12

static volatile uint8_t *via;
static interrupt_handler_t *alarm_handler;
uint32_t via_alarms;

static void via_write(uint32_t reg, uint8_t value)
{
    via[reg] = value;
    eieio();
}

/* Ask for one interrupt in so many microseconds (at most 80000). */
void via_alarm(uint32_t microseconds)
{
    uint32_t count = microseconds * (CLOCK_NUMERATOR / 100000) / (CLOCK_DENOMINATOR / 100000);
    spl_t s = splhigh();
    via_write(T2_LOW, (uint8_t)count);
    via_write(T2_HIGH, (uint8_t)(count >> 8));
    via_write(IER, IER_SET | T2_BIT);
    splx(s);
}

static void via_interrupt(void *unused)
{
    (void)unused;
    if (!(via[IFR] & T2_BIT))
        return;
    via_write(IER, T2_BIT); /* one is enough */
    via_write(IFR, T2_BIT);
    via_alarms++;
    if (alarm_handler)
        alarm_handler(NULL);
}

void via_set_handler(interrupt_handler_t *handler)
{
    alarm_handler = handler;
}

void via_init(vm_offset_t macio)
{
    via = (volatile uint8_t *)(macio + VIA);
    via_write(IER, 0x7f);
    via_write(IFR, 0x7f);
    via_write(ACR, 0);
    pic_enable(VIA_IRQ, via_interrupt, NULL);
}
