/* Packet buffers and the queues between interrupt and protocol. */
#include "kern.h"
#include "net.h"
#include "ppc.h"

static struct zone mbuf_zone;

void mbinit(void)
{
    zinit(&mbuf_zone, sizeof(struct mbuf), "mbufs");
}

struct mbuf *m_get(void)
{
    struct mbuf *m = zalloc(&mbuf_zone);
    m->next_packet = NULL;
    m->data = m->buffer;
    m->length = 0;
    return m;
}

void m_free(struct mbuf *m)
{
    zfree(&mbuf_zone, m);
}

/* Trim bytes from a packet's front. */
void m_adj(struct mbuf *m, uint32_t length)
{
    if (length > m->length)
        length = m->length;
    m->data += length;
    m->length -= length;
}

/* Append a packet; false, and the packet is freed, when the queue is full. */
bool if_enqueue(struct ifqueue *queue, struct mbuf *m)
{
    spl_t s = splimp();
    bool room = queue->length < IFQ_MAXLEN;
    if (room) {
        m->next_packet = NULL;
        if (queue->tail)
            queue->tail->next_packet = m;
        else
            queue->head = m;
        queue->tail = m;
        queue->length++;
    } else {
        queue->drops++;
    }
    splx(s);
    if (!room)
        m_free(m);
    return room;
}

struct mbuf *if_dequeue(struct ifqueue *queue)
{
    spl_t s = splimp();
    struct mbuf *m = queue->head;
    if (m) {
        queue->head = m->next_packet;
        if (queue->head == NULL)
            queue->tail = NULL;
        queue->length--;
    }
    splx(s);
    return m;
}
