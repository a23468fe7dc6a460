/* The log, as it is in /var/log/system.log: a message that was sent to it is found there, once, whole. */
#include "libc.h"

static char text[4096 + 1];

/* How often a text stands in the last part of a file. */
static uint32_t occurrences(const char *path, const char *wanted)
{
    int file = open(path, 0), n;
    uint32_t found = 0;
    size_t kept = 0;
    while (file >= 0 && (n = read(file, text + kept, 2048)) > 0) {
        size_t total = kept + (size_t)n, at = 0, length = strlen(wanted);
        text[total] = 0;
        for (; at + length <= total; at++)
            if (text[at] == wanted[0] && starts_with(text + at, wanted))
                found++;
        kept = total - at;
        memcpy(text, text + at, kept);
    }
    close(file);
    return found;
}

static bool round(uint32_t number)
{
    char wanted[64];
    format(wanted, sizeof wanted, "logcheck[%u]: entry %u of many\n", (uint32_t)getpid(), number);
    say("entry %u of many", number);
    for (int patience = 0; patience < 300; patience++) {
        uint32_t found = occurrences("/var/log/system.log", wanted) + occurrences("/var/log/system.log.0", wanted);
        if (found)
            return found == 1;
        sleep_ticks(2);
    }
    return false;
}

int main(void)
{
    check_for_ever(round, 500);
}
