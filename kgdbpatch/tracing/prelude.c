/* What each payload of a trace begins with; KGT_ names are given by the program (tracing/c_text.py). */
typedef unsigned long kgt_word;
typedef unsigned long __attribute__((may_alias)) kgt_any; /* of memory of whatever type */

struct kgt_slot { kgt_word id, words[KGT_WORDS]; };
struct kgt_ring { volatile kgt_word head; kgt_word bad; struct kgt_slot slots[KGT_SLOTS]; };

#ifdef KGT_OWNER
#define KGT_SHARED
#else
#define KGT_SHARED extern
#endif
KGT_SHARED struct kgt_ring KGT_RING[KGT_CPUS];
KGT_SHARED volatile kgt_word KGT_OVER;
KGT_SHARED volatile kgt_word KGT_LOCK;
KGT_SHARED kgt_word KGT_NOWHERE[KGT_NOWHERE_WORDS];

/* Only this CPU's code runs until kgt_on: an event is whole, and counted once. */
static inline kgt_word kgt_off(void)
{
    kgt_word msr;
    __asm__ volatile("mfmsr %0" : "=r"(msr));
    __asm__ volatile("mtmsr %0" : : "r"(msr & ~0x8000ul) : "memory");
    return msr;
}

static inline void kgt_on(kgt_word msr)
{
    __asm__ volatile("mtmsr %0" : : "r"(msr) : "memory");
}

static inline void kgt_lock(void)
{
#ifndef KGP_ONE_CPU
    while (__atomic_exchange_n(&KGT_LOCK, 1, __ATOMIC_ACQUIRE))
        ;
#endif
}

static inline void kgt_unlock(void)
{
#ifndef KGP_ONE_CPU
    __atomic_store_n(&KGT_LOCK, 0, __ATOMIC_RELEASE);
#endif
}

/* Tell whether so many bytes may be read there. */
static inline int kgt_ok(const volatile void *at, kgt_word size)
{
    return size <= KGT_HIGH - KGT_LOW && (kgt_word)at - KGT_LOW <= KGT_HIGH - KGT_LOW - size;
}

static inline const void *kgt_nowhere(void)
{
    KGT_RING[kgp_cpu()].bad++;
    return KGT_NOWHERE;
}

/* The same pointer, or one to zeros where nothing may be read. */
#define kgt_at(pointer)                                                                                    \
    ({                                                                                                     \
        __typeof__(&*(pointer)) kgt_pointer = (pointer);                                                   \
        _Static_assert(sizeof(*kgt_pointer) <= sizeof(kgt_word) * KGT_NOWHERE_WORDS, "too large to be read"); \
        kgt_ok(kgt_pointer, sizeof(*kgt_pointer)) ? kgt_pointer : (__typeof__(kgt_pointer))kgt_nowhere(); \
    })

/* Copy a string to so many words; the rest is zeros. */
static void __attribute__((noinline, unused)) kgt_text(kgt_word *to, const char *from, kgt_word words)
{
    kgt_word *end = to + words;
    if (from && kgt_ok(from, 4 * words))
        for (; to < end; from += 4) { /* whole words, as long as no letter of them ends it */
            kgt_word word = *(const kgt_any *)from;
            if ((word - 0x01010101ul) & ~word & 0x80808080ul)
                break;
            *to++ = word;
        }
    for (; to < end; to++) {
        kgt_word at, word = 0;
        for (at = 0; at < 4; at++) {
            kgt_word letter = 0;
            if (from && kgt_ok(from, 1))
                letter = (unsigned char)*from++;
            else if (from)
                kgt_nowhere();
            if (!letter)
                from = 0;
            word = word << 8 | letter;
        }
        *to = word;
        if (!from)
            break;
    }
    while (++to < end)
        *to = 0;
}

/* Copy a name of 16 bytes at most; what stands behind its end is not copied. */
static inline void kgt_name(kgt_word *to, const char *from)
{
    const kgt_any *at = (const kgt_any *)from;
    if (!kgt_ok(from, 16)) {
        kgt_text(to, from, 4);
        return;
    }
    #pragma GCC unroll 4
    for (int number = 0; number < 4; number++) {
        kgt_word word = at[number], ends = ~(((word & 0x7f7f7f7ful) + 0x7f7f7f7ful) | word | 0x7f7f7f7ful);
        to[number] = word;
        if (ends) { /* the highest bit of each letter that is 0 */
            to[number] = word & ~(0xfffffffful >> __builtin_clzl(ends));
            #pragma GCC unroll 4
            for (int rest = number + 1; rest < 4; rest++)
                to[rest] = 0;
            return;
        }
    }
}

#ifdef KGT_NANOSECONDS
static inline unsigned long long kgt_nsecs(void)
{
    kgt_word high, low, again;
    do {
        __asm__ volatile("mftbu %0\n\tmftb %1\n\tmftbu %2" : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return ((unsigned long long)high * KGT_NANOSECONDS << 12) + ((unsigned long long)low * KGT_NANOSECONDS >> 20);
}
#endif

static inline kgt_word kgt_log2(unsigned long long value)
{
    kgt_word high = value >> 32;
    return high ? 63 - __builtin_clzl(high) : 31 - __builtin_clzl((kgt_word)value);
}

/* The bucket of a value: 0 below zero, 1 for zero, then one for each power of two. */
static inline kgt_word kgt_bucket(long long value)
{
    return value < 0 ? 0 : value == 0 ? 1 : 2 + kgt_log2(value);
}

#ifdef KGT_STACK
#ifndef KGT_STACK_BASE
#define KGT_STACK_BASE 0
#define KGT_STACK_SIZE 0
#endif

static inline int kgt_mapped(kgt_word at, kgt_word low, kgt_word base)
{
    return !(at & 3) && (kgt_ok((const void *)at, 4) || at - low < KGT_BLOCK || at - base < KGT_STACK_SIZE);
}

#define kgt_word_at(at) (*(const kgt_any *)(at))

/* Tell whether a call stands before an address. */
static inline int kgt_called(kgt_word at, kgt_word low, kgt_word base)
{
    kgt_word word = kgt_mapped(at - 4, low, base) ? kgt_word_at(at - 4) : 0;
    return word & 1 && (word >> 26 == 16 || word >> 26 == 18 || word >> 26 == 19);
}

/* The return address that is saved above a frame, 0 where there is none: callees may have either convention. */
static inline kgt_word kgt_back(kgt_word above, kgt_word low, kgt_word base)
{
    kgt_word first = kgt_mapped(above + 4, low, base) ? kgt_word_at(above + 4) : 0;
    if (KGT_LR != 4) {
        kgt_word other = kgt_mapped(above + KGT_LR, low, base) ? kgt_word_at(above + KGT_LR) : 0;
        if (!KGT_CODE(first) && (KGT_CODE(other) || !kgt_called(first, low, base)))
            first = KGT_CODE(other) || kgt_called(other, low, base) ? other : 0;
    }
    return first & ~3ul;
}

/*
 * Store where the stack's frames go on, the innermost first; the rest is zeros. The lowest bits tell how: 1 is
 * what an exception has interrupted, 2 its LR, which may be its caller. `framed`: sp is the site's own frame.
 */
static void __attribute__((noinline)) kgt_stack(kgt_word *to, kgt_word frames, kgt_word site, kgt_word back,
                                                kgt_word sp, int framed)
{
    kgt_word *end = to + frames, low = sp & -KGT_BLOCK, base = KGT_STACK_BASE, above;
    *to++ = site;
    if (framed && kgt_mapped(sp, low, base)) {
        above = kgt_word_at(sp);
        if (!back)
            back = kgt_back(above, low, base);
        sp = above;
    }
    if (back && to < end)
        *to++ = back;
    while (to < end && kgt_mapped(sp, low, base)) {
        above = kgt_word_at(sp);
        if (above == sp)
            break;
#ifdef KGT_SAVED_SP
        if (kgt_mapped(sp + KGT_SAVED_TRAP, low, base) && kgt_word_at(sp + KGT_SAVED_SP) == above
            && kgt_word_at(sp + KGT_SAVED_TRAP) - 0x100 < 0x2f00 && !(kgt_word_at(sp + KGT_SAVED_PC) & 3)) {
            if (kgt_word_at(sp + KGT_SAVED_MSR) & KGT_PR)
                break;
            *to++ = kgt_word_at(sp + KGT_SAVED_PC) | 1;
            if (to < end)
                *to++ = (kgt_word_at(sp + KGT_SAVED_LINK) & ~3ul) | 2;
            sp = above;
            continue;
        }
#endif
        back = kgt_back(above, low, base);
        if (!back)
            break;
        *to++ = back;
        sp = above;
    }
    while (to < end)
        *to++ = 0;
}
#endif
