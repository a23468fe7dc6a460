/* Ports: bounded message queues between threads. A server answers requests by table. */
#include "kern.h"
#include "ppc.h"
#include "work.h"

#define PORT_DEPTH 4

struct message {
    uint32_t id, operation, argument, result;
    struct port *reply;
};

struct port {
    struct mutex lock;
    struct message queue[PORT_DEPTH];
    uint32_t head, count;
};

static struct port server_port, client_port;
static uint32_t messages_served;

static void port_init(struct port *port)
{
    bzero(port, sizeof *port);
    mutex_init(&port->lock);
}

static void port_send(struct port *port, const struct message *message)
{
    for (;;) {
        mutex_lock(&port->lock);
        if (port->count < PORT_DEPTH)
            break;
        mutex_unlock(&port->lock);
        tsleep(&port->count, 1);
    }
    port->queue[(port->head + port->count++) % PORT_DEPTH] = *message;
    mutex_unlock(&port->lock);
    thread_wakeup(port);
}

static struct message port_receive(struct port *port)
{
    struct message message;
    for (;;) {
        mutex_lock(&port->lock);
        if (port->count)
            break;
        mutex_unlock(&port->lock);
        tsleep(port, 1); /* a wake-up may come before: look again at the next tick */
    }
    message = port->queue[port->head];
    port->head = (port->head + 1) % PORT_DEPTH;
    port->count--;
    mutex_unlock(&port->lock);
    thread_wakeup(&port->count);
    return message;
}

static uint32_t serve_square(uint32_t n)
{
    return n * n;
}

static uint32_t serve_cube(uint32_t n)
{
    return serve_square(n) * n;
}

static uint32_t serve_sum(uint32_t n)
{
    uint32_t sum = 0;
    for (uint32_t i = 1; i <= n; i++)
        sum += i;
    return sum;
}

static uint32_t serve_digits(uint32_t n)
{
    return n < 10 ? n : n % 10 + serve_digits(n / 10);
}

static uint32_t (*const services[])(uint32_t) = {serve_square, serve_cube, serve_sum, serve_digits};

static uint32_t serve_one(void *unused)
{
    (void)unused;
    struct message message = port_receive(&server_port);
    message.result = services[message.operation % countof(services)](message.argument);
    messages_served++;
    port_send(message.reply, &message);
    return 0;
}

static void message_server(void *unused)
{
    for (;;)
        call_kept(serve_one, unused);
}

void messages_init(void)
{
    port_init(&server_port);
    port_init(&client_port);
    kernel_thread("message server", 12, message_server, NULL);
}

static uint32_t expected(uint32_t operation, uint32_t n)
{
    switch (operation) {
    case 0:
        return n * n;
    case 1:
        return n * n * n;
    case 2:
        return n * (n + 1) / 2;
    default: {
        uint32_t sum = 0;
        for (; n; n /= 10)
            sum += n % 10;
        return sum;
    }
    }
}

bool work_messages(uint32_t number)
{
    struct message message = {.id = number, .operation = number % 4, .argument = number % 1000, .reply = &client_port};
    port_send(&server_port, &message);
    struct message answer = port_receive(&client_port);
    return answer.id == number && answer.result == expected(message.operation, message.argument);
}
