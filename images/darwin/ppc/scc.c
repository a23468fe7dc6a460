/* The serial chip (ESCC) in macio, channel A, by polling. */
#include "kern.h"
#include "ppc.h"

#define SCC_CHANNEL_A 0x13020u
#define SCC_DATA 0x10u
#define RR0_TX_EMPTY 0x04

static volatile uint8_t *scc_control;

static void scc_write(uint8_t reg, uint8_t value)
{
    *scc_control = reg;
    eieio();
    *scc_control = value;
    eieio();
}

void scc_init(vm_offset_t macio)
{
    static const uint8_t setup[][2] = {
        {9, 0xc0},  /* reset */
        {4, 0x44},  /* x16 clock, one stop bit */
        {3, 0xc0},  /* receive 8 bits, off */
        {5, 0x60},  /* send 8 bits, off */
        {11, 0x50}, /* baud rate generator drives both */
        {12, 0x00}, {13, 0x00}, /* 115200 */
        {14, 0x01},
        {5, 0x6a},  /* transmitter on, RTS */
    };
    scc_control = (volatile uint8_t *)(macio + SCC_CHANNEL_A);
    for (unsigned i = 0; i < countof(setup); i++)
        scc_write(setup[i][0], setup[i][1]);
}

void cnputc(char c)
{
    if (scc_control == NULL)
        return;
    while (!(*scc_control & RR0_TX_EMPTY))
        eieio();
    scc_control[SCC_DATA] = (uint8_t)c;
    eieio();
}
