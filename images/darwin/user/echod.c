/* Send every datagram back to where it came from, its bytes complemented. */
#include "libc.h"

int main(void)
{
    uint8_t data[160];
    uint32_t port;
    int server = socket();
    if (bind(server, 7) < 0)
        exit(1);
    for (;;) {
        int n = recvfrom(server, data, sizeof data, 0, &port);
        for (int i = 0; i < n; i++)
            data[i] = (uint8_t)~data[i];
        if (n >= 0)
            sendto(server, data, (size_t)n, (int)port);
    }
}
