/* An extension that watches: counts the IP packets of each protocol that come in. */
#include "kern.h"
#include "kmod.h"
#include "net.h"

static uint32_t packet_counts[256];

static void packet_filter(const struct mbuf *m)
{
    const struct ip *ip = (const struct ip *)m->data;
    packet_counts[ip->protocol]++;
}

static uint32_t filter_count(uint32_t protocol)
{
    return packet_counts[protocol & 255];
}

static int filter_start(void)
{
    ip_filter = packet_filter;
    return 0;
}

static int filter_stop(void)
{
    ip_filter = NULL;
    return 0;
}

const struct kmod_entry kmod_entry = {"org.darwin.kext.PacketFilter", "1.2", filter_start, filter_stop, filter_count};
