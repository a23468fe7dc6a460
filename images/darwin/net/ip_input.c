/* Internet protocol input, far enough to check and count. */
#include "kern.h"
#include "kmod.h"
#include "net.h"
#include "ppc.h"

struct ifqueue ipintrq;
struct ip_stats ipstat;
uint32_t udp_received, icmp_received, tcp_received, udp_bad;
void (*ip_filter)(const struct mbuf *m); /* an extension may look at packets */

static const struct protosw inetsw[] = {
    {IPPROTO_UDP, udp_input, "udp"},
    {IPPROTO_ICMP, icmp_input, "icmp"},
    {IPPROTO_TCP, tcp_input, "tcp"},
};

/* The Internet checksum: complement of the ones' complement sum of 16-bit words. */
uint16_t in_cksum(const void *data, uint32_t length, uint32_t sum)
{
    const uint8_t *at = data;
    sum = in_cksum_words(data, length / 4, sum);
    at += length & ~3u;
    if (length & 2) {
        sum += (uint32_t)at[0] << 8 | at[1];
        at += 2;
    }
    if (length & 1)
        sum += (uint32_t)at[0] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint16_t udp_cksum(const struct ip *ip, const struct udp *udp, uint32_t length)
{
    uint32_t pseudo[3] = {ip->source, ip->destination, (uint32_t)IPPROTO_UDP << 16 | length};
    uint16_t sum = (uint16_t)~in_cksum(pseudo, sizeof pseudo, 0);
    return in_cksum(udp, length, sum);
}

bool udp_input(struct mbuf *m, const struct ip *ip)
{
    const struct udp *udp = (const struct udp *)m->data;
    if (m->length < sizeof *udp || udp->length != m->length || udp_cksum(ip, udp, m->length) != 0) {
        udp_bad++;
        return false;
    }
    udp_received++;
    return socket_deliver(m, ip, udp);
}

bool icmp_input(struct mbuf *m, const struct ip *ip)
{
    (void)ip;
    if (m->length >= 8 && in_cksum(m->data, m->length, 0) == 0)
        icmp_received++;
    return false;
}

bool tcp_input(struct mbuf *m, const struct ip *ip)
{
    (void)ip;
    if (m->length >= 20)
        tcp_received++;
    return false;
}

static const struct protosw *ip_protocol(uint8_t protocol)
{
    for (unsigned i = 0; i < countof(inetsw); i++)
        if (inetsw[i].protocol == protocol)
            return &inetsw[i];
    return NULL;
}

/* Check a packet's header and hand it to its protocol; whether that keeps it. */
bool ip_input(struct mbuf *m)
{
    const struct ip *ip = (const struct ip *)m->data;
    const struct protosw *protocol;
    ipstat.total++;
    if (m->length < sizeof *ip || ip->version_length != 0x45 || ip->length > m->length) {
        ipstat.bad_length++;
        return false;
    }
    if (in_cksum(ip, sizeof *ip, 0) != 0) {
        ipstat.bad_sum++;
        return false;
    }
    if (ip_filter)
        ip_filter(m);
    protocol = ip_protocol(ip->protocol);
    if (protocol == NULL) {
        ipstat.no_protocol++;
        return false;
    }
    m->length = ip->length;
    m_adj(m, sizeof *ip);
    ipstat.delivered++;
    return protocol->input(m, ip);
}

void ipintr(void)
{
    struct mbuf *m;
    while ((m = if_dequeue(&ipintrq)) != NULL)
        if (!ip_input(m))
            m_free(m);
}
