/* Strings, formatting, checksums. */
#include "libc.h"

uint32_t errno;

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

bool starts_with(const char *s, const char *with)
{
    while (*with)
        if (*s++ != *with++)
            return false;
    return true;
}

void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *p, int c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((char *)p)[i] = (char)c;
    return p;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n && *x == *y; n--)
        x++, y++;
    return n ? *x - *y : 0;
}

static size_t put_number(char *out, uint32_t value, uint32_t base, size_t width)
{
    char digits[12];
    size_t n = 0;
    do
        digits[n++] = "0123456789abcdef"[value % base];
    while (value /= base);
    while (n < width)
        digits[n++] = '0';
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

static int format_list(char *out, size_t size, const char *text, va_list args)
{
    size_t n = 0;
    for (; *text && n + 13 < size; text++) {
        size_t width = 0;
        if (*text != '%') {
            out[n++] = *text;
            continue;
        }
        for (text++; *text >= '0' && *text <= '9'; text++)
            width = width * 10 + (size_t)(*text - '0');
        if (*text == 's')
            for (const char *from = va_arg(args, const char *); *from && n + 1 < size; from++)
                out[n++] = *from;
        else
            n += put_number(out + n, va_arg(args, uint32_t), *text == 'x' ? 16 : 10, width);
    }
    out[n] = 0;
    return (int)n;
}

/* %s, %u and %x, with a width that zeros fill. */
int format(char *out, size_t size, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    int n = format_list(out, size, text, args);
    va_end(args);
    return n;
}

/* A message in the system's log. */
void say(const char *text, ...)
{
    char line[200];
    va_list args;
    va_start(args, text);
    int n = format_list(line, sizeof line, text, args), log = open("/dev/klog", 0);
    va_end(args);
    write(log, line, (size_t)n);
    close(log);
}

uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

uint32_t crc32(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *at = data;
    crc = ~crc;
    while (n--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

uint32_t counter(const char *name)
{
    return (uint32_t)sysctl(name, NULL);
}

void check_for_ever(bool (*round)(uint32_t number), int ticks)
{
    uint32_t ok = 0, bad = 0;
    for (uint32_t number = 0;; number++) {
        if (round(number))
            ok++;
        else
            bad++;
        if (report(ok, bad) < 0)
            exit(9);
        sleep_ticks(ticks);
    }
}
