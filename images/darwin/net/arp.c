/* Address resolution, and the protocols that are only counted. */
#include "kern.h"
#include "net.h"
#include "ppc.h"

#define ARP_CACHE 16

struct ifqueue arpintrq, ip6intrq, nsintrq;
uint32_t arp_received, arp_bad, ip6_received, ns_received;
static struct {
    uint32_t address;
    uint8_t ether[6];
} arp_cache[ARP_CACHE];

static uint32_t arp_hash(uint32_t address)
{
    return (address ^ address >> 8 ^ address >> 16) % ARP_CACHE;
}

void arp_update(uint32_t address, const uint8_t *ether)
{
    uint32_t slot = arp_hash(address);
    arp_cache[slot].address = address;
    bcopy(ether, arp_cache[slot].ether, 6);
}

const uint8_t *arp_lookup(uint32_t address)
{
    uint32_t slot = arp_hash(address);
    return arp_cache[slot].address == address ? arp_cache[slot].ether : NULL;
}

static uint32_t arp_address(const struct arp *arp)
{
    return (uint32_t)arp->source_high << 16 | arp->source_low;
}

static void arp_input(struct mbuf *m)
{
    const struct arp *arp = (const struct arp *)m->data;
    if (m->length < sizeof *arp || arp->hardware != 1 || arp->protocol != ETHERTYPE_IP)
        return;
    arp_update(arp_address(arp), arp->source_ether);
    if (bcmp(arp_lookup(arp_address(arp)), arp->source_ether, 6) != 0)
        arp_bad++;
    arp_received++;
}

void arpintr(void)
{
    struct mbuf *m;
    while ((m = if_dequeue(&arpintrq)) != NULL) {
        arp_input(m);
        m_free(m);
    }
}

static uint32_t drain(struct ifqueue *queue)
{
    uint32_t count = 0;
    struct mbuf *m;
    while ((m = if_dequeue(queue)) != NULL) {
        m_free(m);
        count++;
    }
    return count;
}

void ip6intr(void)
{
    ip6_received += drain(&ip6intrq);
}

void nsintr(void)
{
    ns_received += drain(&nsintrq);
}
