/* The serial chip (ESCC) in macio, by polling: channel A is the console, channel B a second one. */
#include "kern.h"
#include "ppc.h"

#define SCC_CHANNEL_A 0x13020u
#define SCC_CHANNEL_B 0x13000u
#define SCC_DATA 0x10u
#define RR0_TX_EMPTY 0x04
#define CHANNELS 2

static volatile uint8_t *scc_control[CHANNELS];

static void scc_write(int channel, uint8_t reg, uint8_t value)
{
    *scc_control[channel] = reg;
    eieio();
    *scc_control[channel] = value;
    eieio();
}

static void scc_channel_init(int channel, uint8_t reset)
{
    const uint8_t setup[][2] = {
        {9, reset},
        {4, 0x44},  /* x16 clock, one stop bit */
        {3, 0xc0},  /* receive 8 bits, off */
        {5, 0x60},  /* send 8 bits, off */
        {11, 0x50}, /* baud rate generator drives both */
        {12, 0x00}, {13, 0x00}, /* 115200 */
        {14, 0x01},
        {5, 0x6a},  /* transmitter on, RTS */
    };
    for (unsigned i = 0; i < countof(setup); i++)
        scc_write(channel, setup[i][0], setup[i][1]);
}

void scc_init(vm_offset_t macio)
{
    scc_control[0] = (volatile uint8_t *)(macio + SCC_CHANNEL_A);
    scc_control[1] = (volatile uint8_t *)(macio + SCC_CHANNEL_B);
    scc_channel_init(0, 0xc0); /* resets both channels */
    scc_channel_init(1, 0x40);
}

void scc_putc(int channel, char c)
{
    volatile uint8_t *control = scc_control[channel];
    if (control == NULL)
        return;
    while (!(*control & RR0_TX_EMPTY))
        eieio();
    control[SCC_DATA] = (uint8_t)c;
    eieio();
}

void cnputc(char c)
{
    scc_putc(0, c);
}
