/*
 * The other stations on the wire: a thread makes up frames, about fifteen a second of guest time.
 * They come in by the interface's interrupt, as what processes send to each other does.
 */
#include "kern.h"
#include "net.h"
#include "ppc.h"

#define OUR_ADDRESS 0x0a000001u /* 10.0.0.1 */

static uint32_t seed = 20010523;
static uint32_t sent;
static const uint8_t our_ether[6] = {0x00, 0x05, 0x02, 0x12, 0x34, 0x56};

uint32_t packets_sent(void)
{
    return sent;
}

/* Queue a received frame for its protocol and post the software interrupt. */
void ether_input(struct mbuf *m)
{
    uint16_t type = ((const struct ether_header *)m->data)->type;
    m_adj(m, sizeof(struct ether_header) + 2);
    switch (type) {
    case ETHERTYPE_IP:
        if (if_enqueue(&ipintrq, m))
            schednetisr(NETISR_IP);
        break;
    case ETHERTYPE_ARP:
        if (if_enqueue(&arpintrq, m))
            schednetisr(NETISR_ARP);
        break;
    case ETHERTYPE_IPV6:
        if (if_enqueue(&ip6intrq, m))
            schednetisr(NETISR_IPV6);
        break;
    case ETHERTYPE_NS:
        if (if_enqueue(&nsintrq, m))
            schednetisr(NETISR_NS);
        break;
    default:
        m_free(m);
    }
}

static uint32_t pick(uint32_t limit)
{
    return random_next(&seed) % limit;
}

/* Room for a header at a packet's end. */
static void *m_append(struct mbuf *m, uint32_t length)
{
    void *at = m->data + m->length;
    bzero(at, length);
    m->length += length;
    return at;
}

static void make_ether(struct mbuf *m, uint16_t type)
{
    struct ether_header *header = m_append(m, sizeof *header + 2); /* two bytes align what follows */
    bcopy(our_ether, header->destination, 6);
    header->source[5] = (uint8_t)pick(250);
    header->type = type;
}

static struct ip *make_ip(struct mbuf *m, uint8_t protocol, uint32_t payload)
{
    struct ip *ip = m_append(m, sizeof *ip);
    ip->version_length = 0x45;
    ip->length = (uint16_t)(sizeof *ip + payload);
    ip->id = (uint16_t)sent;
    ip->ttl = 64;
    ip->protocol = protocol;
    ip->source = 0x0a000002u + pick(200);
    ip->destination = OUR_ADDRESS;
    ip->sum = in_cksum(ip, sizeof *ip, 0);
    return ip;
}

static void fill(uint8_t *data, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        data[i] = (uint8_t)pick(256);
}

static void make_udp(struct mbuf *m)
{
    uint32_t length = sizeof(struct udp) + 16 + pick(100);
    struct ip *ip = make_ip(m, IPPROTO_UDP, length);
    struct udp *udp = m_append(m, length);
    udp->source = (uint16_t)(1024 + pick(60000));
    udp->destination = 7;
    udp->length = (uint16_t)length;
    fill((uint8_t *)(udp + 1), length - sizeof *udp);
    udp->sum = udp_cksum(ip, udp, length);
}

static void make_icmp(struct mbuf *m)
{
    uint32_t length = 8 + 32;
    make_ip(m, IPPROTO_ICMP, length);
    uint8_t *icmp = m_append(m, length);
    icmp[0] = 8; /* echo request */
    fill(icmp + 4, length - 4);
    uint16_t sum = in_cksum(icmp, length, 0);
    bcopy(&sum, icmp + 2, 2);
}

static void make_tcp(struct mbuf *m)
{
    make_ip(m, IPPROTO_TCP, 20);
    fill(m_append(m, 20), 20);
}

static void make_arp(struct mbuf *m)
{
    struct arp *arp = m_append(m, sizeof *arp);
    arp->hardware = 1;
    arp->protocol = ETHERTYPE_IP;
    arp->hardware_length = 6;
    arp->protocol_length = 4;
    arp->operation = 1;
    fill(arp->source_ether, 6);
    arp->source_high = OUR_ADDRESS >> 16;
    arp->source_low = (uint16_t)(2 + pick(200));
}

static struct mbuf *make_frame(void)
{
    struct mbuf *m = m_get();
    uint32_t kind = pick(20);
    make_ether(m, kind == 0 ? ETHERTYPE_ARP : kind == 1 ? ETHERTYPE_IPV6 : kind == 2 ? ETHERTYPE_NS : ETHERTYPE_IP);
    switch (kind) {
    case 0:
        make_arp(m);
        break;
    case 1:
    case 2:
        fill(m_append(m, 40), 40);
        break;
    case 3:
    case 4:
        make_icmp(m);
        break;
    case 5:
        make_tcp(m);
        break;
    default:
        make_udp(m);
    }
    return m;
}

static uint32_t ether_round(void *unused)
{
    (void)unused;
    delay_ticks(4 + (int)pick(6)); /* 40 to 90 ms */
    if_transmit(make_frame());
    sent++;
    return 0;
}

void ether_driver(void *unused)
{
    for (;;)
        call_kept(ether_round, unused);
}
