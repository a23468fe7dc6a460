/* Follow /var/log/system.log on the second console channel, from its beginning. */
#include "libc.h"

static const char path[] = "/var/log/system.log";

int main(void)
{
    int tty = open("/dev/tty1", 0), log = open(path, O_CREAT), at = 0;
    char chunk[512];
    for (;;) {
        int n = read(log, chunk, sizeof chunk);
        if (n > 0) {
            write(tty, chunk, (size_t)n);
            at += n;
            continue;
        }
        int now = open(path, O_CREAT);
        if (file_size(now) < at) { /* another file has this name now */
            close(log);
            log = now;
            at = 0;
        } else {
            close(now);
            sleep_ticks(10);
        }
    }
}
