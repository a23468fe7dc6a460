/* Datagram sockets of user processes, and UDP output. */
#include "kern.h"
#include "net.h"
#include "fs.h"
#include "ppc.h"
#include "task.h"

#define LOOPBACK 0x7f000001u
#define PAYLOAD_MAX 160u

struct socket {
    struct socket *next;
    uint16_t port;
    struct ifqueue received;
};

static struct socket *all_sockets;
static struct mutex socket_lock;
uint32_t socket_sent, socket_received, socket_no_port;

/* The socket bound to a port; interrupts are off or sockets locked. */
static struct socket *in_pcblookup(uint16_t port)
{
    struct socket *socket = all_sockets;
    while (socket && socket->port != port)
        socket = socket->next;
    return socket;
}

/* Give a datagram to the socket of its port: true when it was taken. */
bool socket_deliver(struct mbuf *m, const struct ip *ip, const struct udp *udp)
{
    if (ip->destination != LOOPBACK)
        return false;
    spl_t s = splnet();
    struct socket *socket = in_pcblookup(udp->destination);
    bool taken = socket != NULL;
    if (taken && if_enqueue(&socket->received, m))
        socket_received++;
    if (!taken)
        socket_no_port++;
    splx(s);
    if (taken)
        thread_wakeup(socket);
    return taken;
}

void socket_close(struct socket *socket)
{
    struct mbuf *m;
    spl_t s = splnet();
    struct socket **link = &all_sockets;
    while (*link != socket)
        link = &(*link)->next;
    *link = socket->next;
    splx(s);
    while ((m = if_dequeue(&socket->received)) != NULL)
        m_free(m);
    kfree(socket, sizeof *socket);
}

static struct socket *socket_of(struct task *self, uint32_t number)
{
    return number < NOFILE && self->files[number] ? self->files[number]->socket : NULL;
}

int sys_socket(struct task *self, const uint32_t *argument, uint32_t *result)
{
    uint32_t number = 0;
    (void)argument;
    while (number < NOFILE && self->files[number])
        number++;
    if (number == NOFILE)
        return EMFILE;
    struct socket *socket = kalloc(sizeof *socket);
    bzero(socket, sizeof *socket);
    spl_t s = splnet();
    socket->next = all_sockets;
    all_sockets = socket;
    splx(s);
    self->files[number] = file_allocate();
    self->files[number]->socket = socket;
    *result = number;
    return 0;
}

int sys_bind(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct socket *socket = socket_of(self, argument[0]);
    int error = 0;
    (void)result;
    if (socket == NULL)
        return EBADF;
    mutex_lock(&socket_lock);
    if (argument[1] == 0 || in_pcblookup((uint16_t)argument[1]))
        error = EEXIST;
    else
        socket->port = (uint16_t)argument[1];
    mutex_unlock(&socket_lock);
    return error;
}

/* Put UDP, IP and Ethernet headers before a payload, which begins at their common size. */
static void udp_output(struct mbuf *m, uint16_t from, uint16_t to, uint32_t payload)
{
    struct ether_header *ether = (struct ether_header *)m->data;
    struct ip *ip = (struct ip *)(m->data + sizeof *ether + 2);
    struct udp *udp = (struct udp *)(ip + 1);
    static uint16_t next_id;
    bzero(m->data, (uint8_t *)(udp + 1) - m->data);
    ether->type = ETHERTYPE_IP;
    *udp = (struct udp){from, to, (uint16_t)(sizeof *udp + payload), 0};
    *ip = (struct ip){.version_length = 0x45, .ttl = 64, .protocol = IPPROTO_UDP, .id = next_id++};
    ip->length = (uint16_t)(sizeof *ip + udp->length);
    ip->source = ip->destination = LOOPBACK;
    ip->sum = in_cksum(ip, sizeof *ip, 0);
    udp->sum = udp_cksum(ip, udp, udp->length);
    m->length = (uint32_t)((uint8_t *)(udp + 1) - m->data) + payload;
}

/* sendto(socket, data, size, port) */
int sys_sendto(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct socket *socket = socket_of(self, argument[0]);
    const uint32_t headers = sizeof(struct ether_header) + 2 + sizeof(struct ip) + sizeof(struct udp);
    if (socket == NULL)
        return EBADF;
    if (argument[2] > PAYLOAD_MAX)
        return EINVAL;
    struct mbuf *m = m_get();
    int error = copyin(argument[1], m->data + headers, argument[2]);
    if (error) {
        m_free(m);
        return error;
    }
    udp_output(m, socket->port, (uint16_t)argument[3], argument[2]);
    *result = argument[2];
    socket_sent++;
    return if_transmit(m) ? 0 : ENOMEM;
}

static struct mbuf *socket_wait(struct socket *socket, int ticks)
{
    spl_t s = splnet();
    if (socket->received.length == 0)
        tsleep(socket, ticks);
    struct mbuf *m = if_dequeue(&socket->received);
    splx(s);
    return m;
}

/* recvfrom(socket, data, size, ticks, &port): the size of the datagram; nothing within `ticks`: ESRCH. */
int sys_recvfrom(struct task *self, const uint32_t *argument, uint32_t *result)
{
    struct socket *socket = socket_of(self, argument[0]);
    if (socket == NULL)
        return EBADF;
    struct mbuf *m = socket_wait(socket, (int)argument[3]);
    if (m == NULL)
        return ESRCH;
    const struct udp *udp = (const struct udp *)m->data;
    uint32_t port = udp->source, size = m->length - sizeof *udp;
    *result = size < argument[2] ? size : argument[2];
    int error = copyout(udp + 1, argument[1], *result);
    if (error == 0 && argument[4])
        error = copyout(&port, argument[4], sizeof port);
    m_free(m);
    return error;
}
