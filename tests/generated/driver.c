/* Load one program after the other to where it was linked, run it, keep how it ended; see machine.py. */

typedef unsigned int u32;

struct run {
    u32 source, bytes;               /* what is loaded */
    u32 load, zero_end;              /* where, and up to where memory behind it is zeroed */
    u32 entry, stack, r2, r13, ticks;
    u32 hash_start, hash_end;        /* data whose hash is kept */
    u32 counters, counters_end;      /* words to keep */
    u32 result;
};

struct result {
    u32 vector, value, unkept, hash, output;
    u32 counters[];
};

void run(u32 entry, u32 stack, u32 r2, u32 r13, u32 ticks);

#define CURRENT (*(struct run **)0x2000)
#define LAST (*(struct run **)0x2004)
#define OUTPUT (*(u32 *)0x2008) /* the program's runtime adds to it what is printed */
#define STACK_BYTES 0x40000

static void finished(void)
{
    __asm__ volatile(".globl done\ndone: b done");
}

void next(void)
{
    struct run *r = CURRENT;
    if (r == LAST)
        finished();
    u32 *to = (u32 *)r->load, *from = (u32 *)r->source;
    for (u32 n = r->bytes / 4; n; n--)
        *to++ = *from++;
    while (to < (u32 *)r->zero_end)
        *to++ = 0;
    for (u32 *at = (u32 *)r->counters; at < (u32 *)r->counters_end; at++)
        *at = 0;
    for (u32 *at = (u32 *)(r->stack - STACK_BYTES); at < (u32 *)(r->stack + 64); at++)
        *at = 0;
    OUTPUT = 0;
    run(r->entry, r->stack, r->r2, r->r13, r->ticks);
}

void ended(u32 vector, u32 value, u32 unkept)
{
    struct run *r = CURRENT;
    struct result *to = (struct result *)r->result;
    u32 hash = 0;
    for (u32 *at = (u32 *)r->hash_start; at < (u32 *)r->hash_end; at++)
        hash = (hash << 5 | hash >> 27) * 9 + *at;
    to->vector = vector;
    to->value = value;
    to->unkept = unkept;
    to->hash = hash;
    to->output = OUTPUT;
    u32 *count = to->counters;
    for (u32 *at = (u32 *)r->counters; at < (u32 *)r->counters_end; at++)
        *count++ = *at;
    CURRENT = r + 1;
    next();
}
