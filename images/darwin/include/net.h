/* The network: buffers, queues, the software interrupt. */
#ifndef NET_H
#define NET_H

#include "types.h"

#define NETISR_RAW 0
#define NETISR_IP 2
#define NETISR_IMP 3
#define NETISR_NS 6
#define NETISR_ISO 7
#define NETISR_ARP 18
#define NETISR_IPV6 28

extern volatile unsigned netisr; /* a bit for each queue that needs service */
#define schednetisr(n) setsoftnet(1u << (n))
void setsoftnet(unsigned bits);
void run_netisr(void);
void netisr_thread(void *unused);

#define MLEN 224
struct mbuf {
    struct mbuf *next_packet;
    uint8_t *data;
    uint32_t length;
    uint8_t buffer[MLEN] __attribute__((aligned(4)));
};
struct mbuf *m_get(void);
void m_free(struct mbuf *m);
void m_adj(struct mbuf *m, uint32_t length);
void mbinit(void);

#define IFQ_MAXLEN 50
struct ifqueue {
    struct mbuf *head, *tail;
    uint32_t length, drops;
};
bool if_enqueue(struct ifqueue *queue, struct mbuf *m);
struct mbuf *if_dequeue(struct ifqueue *queue);
extern struct ifqueue ipintrq, arpintrq, ip6intrq, nsintrq;

struct ether_header {
    uint8_t destination[6], source[6];
    uint16_t type;
};
#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_NS 0x0600
#define ETHERTYPE_IPV6 0x86dd
void ether_input(struct mbuf *m);
bool if_transmit(struct mbuf *m);
void if_init(void);
void ether_driver(void *unused);

struct ip {
    uint8_t version_length, tos;
    uint16_t length, id, offset;
    uint8_t ttl, protocol;
    uint16_t sum;
    uint32_t source, destination;
};
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

struct udp {
    uint16_t source, destination, length, sum;
};

struct protosw {
    uint8_t protocol;
    bool (*input)(struct mbuf *m, const struct ip *ip); /* whether it keeps the packet */
    const char *name;
};

struct ip_stats {
    uint32_t total, bad_sum, bad_length, no_protocol, delivered;
};
extern struct ip_stats ipstat;
extern uint32_t udp_received, icmp_received, tcp_received, arp_received, arp_bad, ip6_received, ns_received;
extern uint32_t udp_bad;

uint16_t in_cksum(const void *data, uint32_t length, uint32_t sum);
uint16_t udp_cksum(const struct ip *ip, const struct udp *udp, uint32_t length);
void ipintr(void);
void arpintr(void);
void ip6intr(void);
void nsintr(void);
bool ip_input(struct mbuf *m);
bool udp_input(struct mbuf *m, const struct ip *ip);
bool icmp_input(struct mbuf *m, const struct ip *ip);
bool tcp_input(struct mbuf *m, const struct ip *ip);
struct socket;
bool socket_deliver(struct mbuf *m, const struct ip *ip, const struct udp *udp);
void socket_close(struct socket *socket);

struct arp {
    uint16_t hardware, protocol;
    uint8_t hardware_length, protocol_length;
    uint16_t operation;
    uint8_t source_ether[6];
    uint16_t source_high, source_low; /* an IP address, not aligned */
    uint8_t target_ether[6];
    uint16_t target_high, target_low;
};
void arp_update(uint32_t address, const uint8_t *ether);
const uint8_t *arp_lookup(uint32_t address);

uint32_t packets_sent(void);

#endif
