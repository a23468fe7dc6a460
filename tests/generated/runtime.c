/* What the programs need of a C library, compiled with the same flags as they are. */

#include <stdarg.h>
#include <stddef.h>

#define OUTPUT (*(volatile unsigned *)0x2008) /* see driver.c */

unsigned __stack_chk_guard = 0x00ab1234;

static void put(unsigned word)
{
    OUTPUT = (OUTPUT << 7 | OUTPUT >> 25) * 5 + word;
}

int printf(const char *format, ...)
{
    va_list list;
    unsigned count = 0;
    va_start(list, format);
    for (; *format; format++) {
        put((unsigned char)*format);
        if (*format == '%') {
            put(va_arg(list, unsigned));
            count++;
        }
    }
    va_end(list);
    return (int)count;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    for (size_t at = 0; at < size; at++)
        ((volatile char *)to)[at] = ((const char *)from)[at];
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    if ((char *)to <= (const char *)from)
        return memcpy(to, from, size);
    while (size--)
        ((volatile char *)to)[size] = ((const char *)from)[size];
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    for (size_t at = 0; at < size; at++)
        ((volatile char *)to)[at] = (char)byte;
    return to;
}

int memcmp(const void *one, const void *other, size_t size)
{
    const unsigned char *a = one, *b = other;
    for (; size--; a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}

int strcmp(const char *one, const char *other)
{
    for (; *one && *one == *other; one++, other++)
        ;
    return (unsigned char)*one - (unsigned char)*other;
}

void __stack_chk_fail(void)
{
    __builtin_trap();
}

__attribute__((noreturn)) void abort(void)
{
    __builtin_trap();
}
