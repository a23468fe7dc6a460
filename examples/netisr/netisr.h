/* What the three patches of this example share with each other, and with the kernel. */
#ifndef NETISR_H
#define NETISR_H

#include <kgdbpatch.h>

/* The kernel's (images/darwin/include/net.h); 'kgdbpatch type darwin "struct mbuf"' shows them. */
struct mbuf {
    struct mbuf *next_packet;
    unsigned char *data;
    unsigned length;
};
struct ifqueue {
    struct mbuf *head, *tail;
    unsigned length, drops;
};
struct ether_header {
    unsigned char destination[6], source[6];
    unsigned short type;
    unsigned short pad; /* what follows is aligned */
};

extern volatile unsigned netisr;
extern void setsoftnet(unsigned bits);
extern struct mbuf *m_get(void);
extern void m_free(struct mbuf *m);
extern void m_adj(struct mbuf *m, unsigned length);
extern _Bool if_enqueue(struct ifqueue *queue, struct mbuf *m);
extern struct mbuf *if_dequeue(struct ifqueue *queue);
extern _Bool if_transmit(struct mbuf *m);
extern unsigned hw_atomic_and(volatile unsigned *word, unsigned mask);
extern int hw_compare_and_store(unsigned old, unsigned new, volatile unsigned *word);

/* What dispatcher.c offers to the others. */
typedef void netisr_handler(unsigned bit);
int netisr_register(unsigned bit, netisr_handler *handler);
int netisr_unregister(unsigned bit, netisr_handler *handler);

/* The two new packet types, of those that IEEE 802 leaves to experiments; what is behind their header. */
#define TYPES 2
#define FIRST_TYPE 0x88b5
#define WORDS 8
struct packet {
    unsigned sequence, sum;
    unsigned words[WORDS];
};

static inline unsigned packet_sum(const struct packet *packet)
{
    unsigned sum = packet->sequence;
    for (unsigned n = 0; n < WORDS; n++)
        sum = (sum << 1 | sum >> 31) ^ packet->words[n];
    return sum;
}

#endif
