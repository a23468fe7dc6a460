/* Datagrams through the interface to echod and back, several on their way at once; the counters too. */
#include "libc.h"

#define FLIGHT 3
#define SIZE 160

static int client;

static size_t make(uint32_t number, uint8_t *data)
{
    uint32_t seed = number * 77 + 5;
    size_t n = 8 + random_next(&seed) % (SIZE - 8);
    memcpy(data, &number, 4);
    for (size_t i = 4; i < n; i++)
        data[i] = (uint8_t)random_next(&seed);
    return n;
}

static bool came_back(uint32_t number)
{
    uint8_t data[SIZE], back[SIZE];
    uint32_t port = 0;
    int n;
    do /* a late answer to the first knocks is one byte long */
        n = recvfrom(client, back, sizeof back, 1000, &port);
    while (n == 1);
    size_t wanted = make(number, data);
    for (size_t i = 0; i < wanted; i++)
        data[i] = (uint8_t)~data[i];
    return n == (int)wanted && port == 7 && memcmp(data, back, wanted) == 0;
}

/* A port is free again when its socket is closed. */
static bool ports(uint32_t number)
{
    int one = socket(), port = 3000 + (int)(number % 100), other = socket();
    bool right = bind(one, port) == 0 && bind(other, port) < 0 && close(one) == 0 && bind(other, port) == 0;
    return close(other) == 0 && right && sendto(other, "", 0, 7) < 0;
}

static bool round(uint32_t number)
{
    if (!ports(number))
        return false;
    uint8_t data[SIZE];
    uint32_t sent = counter("net.socket.sent"), frames = counter("net.if.frames");
    uint32_t received = counter("net.socket.received"), bad = counter("net.inet.udp.bad");
    bool right = true;
    for (uint32_t i = 0; i < FLIGHT; i++) {
        size_t n = make(number * FLIGHT + i, data);
        right &= sendto(client, data, n, 7) == (int)n;
    }
    for (uint32_t i = 0; i < FLIGHT; i++)
        right &= came_back(number * FLIGHT + i);
    if (number) { /* in the first round answers to the knocks may still come */
        right &= counter("net.socket.sent") - sent == 2 * FLIGHT;
        right &= counter("net.socket.received") - received == 2 * FLIGHT;
    }
    return right && counter("net.if.frames") - frames >= 2 * FLIGHT && counter("net.inet.udp.bad") == bad;
}

int main(void)
{
    while ((client = socket()) < 0 || bind(client, 2000) < 0)
        sleep_ticks(1);
    while (sendto(client, "?", 1, 7) != 1 || recvfrom(client, &(char){0}, 1, 5, NULL) < 0)
        ; /* until echod has its port */
    while (recvfrom(client, &(char){0}, 1, 4, NULL) >= 0)
        ;
    check_for_ever(round, 12);
}
