/* Strings and characters. */
#include "kern.h"

size_t strlen(const char *s)
{
    const char *end = s;
    while (*end)
        end++;
    return (size_t)(end - s);
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || *a == 0)
            return (unsigned char)*a - (unsigned char)*b;
    return 0;
}

size_t strlcpy(char *to, const char *from, size_t size)
{
    size_t length = strlen(from);
    if (size) {
        size_t n = length < size ? length : size - 1;
        memcpy(to, from, n);
        to[n] = 0;
    }
    return length;
}

char *strchr(const char *s, int c)
{
    for (; *s != (char)c; s++)
        if (*s == 0)
            return NULL;
    return (char *)s;
}

char *strstr(const char *s, const char *wanted)
{
    size_t length = strlen(wanted);
    if (length == 0)
        return (char *)s;
    for (; (s = strchr(s, *wanted)) != NULL; s++)
        if (strncmp(s, wanted, length) == 0)
            return (char *)s;
    return NULL;
}

bool isdigit(int c)
{
    return c >= '0' && c <= '9';
}

bool isspace(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

int toupper(int c)
{
    return c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c;
}

static int digit_value(int c)
{
    if (isdigit(c))
        return c - '0';
    c = toupper(c);
    return c >= 'A' && c <= 'Z' ? c - 'A' + 10 : 99;
}

uint32_t strtoul(const char *s, const char **end, int base)
{
    uint32_t value = 0;
    while (isspace(*s))
        s++;
    if ((base == 0 || base == 16) && s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        s += 2;
        base = 16;
    } else if (base == 0) {
        base = *s == '0' ? 8 : 10;
    }
    for (; digit_value(*s) < base; s++)
        value = value * (uint32_t)base + (uint32_t)digit_value(*s);
    if (end)
        *end = s;
    return value;
}

/* A linear congruential generator: the next number of a seed's sequence. */
uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}
