/* What compilers call by themselves, for kernels that have no such functions; NEED_… says which. */

typedef __SIZE_TYPE__ size;
typedef unsigned __attribute__((may_alias)) word;

#define ALIGNED(a, b) ((((__UINTPTR_TYPE__)(a) | (__UINTPTR_TYPE__)(b)) & 3) == 0)

#ifdef NEED_memcpy
void *memcpy(void *to, const void *from, size count)
{
    char *out = to;
    const char *in = from;
    if (ALIGNED(out, in))
        for (; count >= 4; count -= 4, out += 4, in += 4)
            *(word *)out = *(const word *)in;
    while (count--)
        *out++ = *in++;
    return to;
}
#endif

#ifdef NEED_memmove
void *memmove(void *to, const void *from, size count)
{
    char *out = to;
    const char *in = from;
    if ((__UINTPTR_TYPE__)out - (__UINTPTR_TYPE__)in >= count) {
        while (count--)
            *out++ = *in++;
    } else {
        while (count--)
            out[count] = in[count];
    }
    return to;
}
#endif

#ifdef NEED_memset
void *memset(void *to, int value, size count)
{
    char *out = to;
    word all = (unsigned char)value * 0x01010101u;
    if (ALIGNED(out, 0))
        for (; count >= 4; count -= 4, out += 4)
            *(word *)out = all;
    while (count--)
        *out++ = (char)value;
    return to;
}
#endif

#ifdef NEED_memcmp
int memcmp(const void *left, const void *right, size count)
{
    const unsigned char *one = left, *other = right;
    for (; count--; one++, other++)
        if (*one != *other)
            return *one - *other;
    return 0;
}
#endif
