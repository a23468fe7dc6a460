/*
 * What a payload of kgdbpatch sees of the kernel that it is put into, and may change of it.
 *
 *     #include <kgdbpatch.h>
 *     KGP_WRITES(r5);
 *
 *     void probe(struct kgp_regs *regs)
 *     {
 *         if (regs->r5 > 1400)
 *             kgp_return(-90);
 *         regs->r5 &= ~3u;
 *     }
 *
 * A function whose only parameter is a `struct kgp_regs *` gets all registers as they are at the
 * site. Any other gets r3..r10 in its parameters, as the kernel's functions do.
 */
#ifndef KGDBPATCH_H
#define KGDBPATCH_H

struct kgp_regs {
    union {
        struct {
            unsigned long r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15;
            unsigned long r16, r17, r18, r19, r20, r21, r22, r23, r24, r25, r26, r27, r28, r29, r30, r31;
        };
        unsigned long gpr[32];
    };
    unsigned long cr, lr, ctr, xer;
    unsigned long msr;
    unsigned long site;   /* address of the instruction that runs next */
    unsigned long caller; /* where the function will return to; 0 where that is not known */
    unsigned long leaves; /* set by kgp_return */
};

/*
 * What a payload at a function's exits (--exit) sees: it is a function whose only parameter is a
 * `struct kgp_exit *`. It runs when the function has returned, once for each call of it that returns. With
 * --writes r3,r4, or KGP_WRITES(r3), what it leaves in `result` is what the caller gets.
 *
 * A function `void kgp_begin(struct kgp_exit *)` beside it runs where the function begins. What it writes to
 * `kept` is there again when that call returns. It may call nothing of the kernel's, nor may the other then.
 */
struct kgp_exit {
    union {
        struct {
            unsigned long r3, r4, r5, r6, r7, r8, r9, r10; /* as they were at the entry: the arguments */
        };
        unsigned long argument[8];
    };
    unsigned long result;     /* r3 as the function left it */
    unsigned long result_low; /* r4, the lower half of a result of 64 bits */
    unsigned long caller;     /* where the function returns to */
    unsigned long function;   /* where it begins */
    unsigned long sp;         /* r1 at its entry: no other call under way has the same */
    unsigned long kept[8];    /* of kgp_begin */
};

/*
 * The registers that the payload changes for the kernel, of r0 r3..r12 r14..r31 cr0..cr7 lr ctr xer:
 * what it leaves in them is what the kernel goes on with. All others are put back as they were. The
 * same as the option --writes.
 */
#define KGP_WRITES(...) \
    __asm__(".pushsection .kgp.writes,\"\",@progbits\n\t.asciz \"" #__VA_ARGS__ "\"\n\t.popsection")

/*
 * Leave the payload, and the kernel's function with it: it returns `value` to its caller at once. Only
 * in the function that is called, whose parameter is `regs`. At a function's entry, and behind it where its
 * code says where it keeps its caller's registers: these it gets back. Locks that the function holds by then,
 * interrupts that it has switched off stay as they are.
 */
#define kgp_return(value)                                                                   \
    do {                                                                                    \
        __asm__ volatile(".pushsection .kgp.returns,\"\",@progbits\n\t.byte 1\n\t.popsection"); \
        regs->r3 = (unsigned long)(value);                                                  \
        regs->leaves = 1;                                                                   \
        return;                                                                             \
    } while (0)

/* The same for a function that returns 64 bits. */
#define kgp_return64(value)                              \
    do {                                                 \
        unsigned long long kgp_value = (value);          \
        regs->r4 = (unsigned long)kgp_value;             \
        kgp_return((unsigned long)(kgp_value >> 32));    \
    } while (0)

#define kgp_site() (regs->site)
/* Where the function will return to; 0 where that is not known, as in code that nobody calls. */
#define kgp_caller() (regs->caller)

/*
 * In a function that takes another's place (--replace), the function that it stands for:
 *
 *     return KGP_ORIGINAL(long, struct sock *, size_t)(sk, length);
 */
#define KGP_ORIGINAL(result, ...) ((result (*)(__VA_ARGS__))(unsigned long)kgp_original)
extern const char kgp_original[];

/*
 * A function or variable of another patch, where several patches, or the kernel, have that name; the patch
 * is called by its source file without the suffix (what C does not have in names is written _), or by its id,
 * the kernel is called kernel:
 *
 *     extern unsigned hits KGP_OF(packet_counter, hits);
 */
#define KGP_OF(patch, name) __asm__("\"" #patch ":" #name "\"")

/* The number of the CPU that runs the payload. */
static inline unsigned long kgp_cpu(void)
{
#ifdef KGP_ONE_CPU
    return 0;
#else
    unsigned long number;
    __asm__ volatile("mfspr %0,286" : "=r"(number));
    return number;
#endif
}

/* Print to the guest's own log, as the kernel does. */
#ifdef KGP_PRINTF
extern int KGP_PRINTF(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define kgp_printf KGP_PRINTF
#endif

#endif
