/*
 * Frames of the two types, put on the wire whenever a process sends a datagram.
 *
 *     kgdbpatch apply darwin sys_sendto --c examples/netisr/sender.c
 */
#include "netisr.h"

unsigned sender_sent[TYPES], sender_full;
volatile unsigned sender_enabled = 1;

static void send(unsigned number)
{
    struct mbuf *m = m_get();
    struct ether_header *header = (struct ether_header *)m->data;
    struct packet *packet = (struct packet *)(header + 1);

    *header = (struct ether_header){.type = (unsigned short)(FIRST_TYPE + number)};
    packet->sequence = sender_sent[number] + 1;
    for (unsigned n = 0; n < WORDS; n++)
        packet->words[n] = (packet->sequence + n) * 0x9e3779b9;
    packet->sum = packet_sum(packet);
    m->length = sizeof *header + sizeof *packet;
    if (if_transmit(m))
        sender_sent[number]++;
    else
        sender_full++; /* the ring was; the frame is freed */
}

void sender(void)
{
    static unsigned calls;

    if (!sender_enabled)
        return;
    send(0);
    if (++calls % 3 == 0)
        send(1);
}
