/* Little things of the machine: idling and halting. */
#include "kern.h"
#include "ppc.h"

volatile uint32_t idle_rounds;

void machine_idle(void)
{
    for (int i = 0; i < 1000; i++)
        idle_rounds++;
}

void machine_halt(void)
{
    splhigh();
    for (;;)
        ;
}
