/*
 * Timers of functions, in the time that their thread has run; KGV_ names are given by thread_time.py.
 *
 * A thread's clock shows the time base less `base`. That is set anew whenever the thread gets a CPU, to what
 * leaves the clock at what it showed when the thread gave one up.
 */
typedef unsigned long kgv_word;
typedef unsigned long long kgv_time;

struct kgv_thread {
    volatile kgv_word id; /* 0: free */
    kgv_word unused;
    kgv_time base, left;
    kgv_time inner; /* of calls that the innermost timed one has made: their time */
};

#ifdef KGV_OWNER
struct kgv_thread KGV_THREADS[KGV_ROOM];
volatile kgv_word KGV_FULL;
#else
extern struct kgv_thread KGV_THREADS[KGV_ROOM];
extern volatile kgv_word KGV_FULL;
#endif

static inline kgv_time kgv_now(void)
{
    kgv_word high, low, again;
    do {
        __asm__ volatile("mftbu %0\n\tmftb %1\n\tmftbu %2" : "=r"(high), "=r"(low), "=r"(again));
    } while (high != again);
    return (kgv_time)high << 32 | low;
}

static inline struct kgv_thread *kgv_at(kgv_word id, kgv_word step)
{
    return &KGV_THREADS[((id >> 4 ^ id >> 12) + step) % KGV_ROOM];
}

/* The place of a thread that has one. */
static inline struct kgv_thread *kgv_find(kgv_word id)
{
    kgv_word step;
    for (step = 0; step < KGV_STEPS; step++) {
        struct kgv_thread *thread = kgv_at(id, step);
        if (thread->id == id)
            return thread;
        if (!thread->id)
            break;
    }
    return 0;
}

#ifdef KGV_OWNER
void kgv_switch(kgv_word first, kgv_word second)
{
    kgv_time now = kgv_now();
    struct kgv_thread *old = kgv_find(KGV_OLD), *new = kgv_find(KGV_NEW);
    if (old)
        old->left = now - old->base;
    if (new)
        new->base = now - new->left;
    (void)first;
    (void)second;
}
#else

struct kgv_totals {
    volatile kgv_word changes; /* odd while they are changed */
    kgv_word calls;
    kgv_time inclusive, exclusive, elapsed, longest;
    kgv_word buckets[64]; /* by the inclusive time's bits */
} kgv_totals[KGV_CPUS];

/* Only this CPU's code runs until kgv_on. */
static inline kgv_word kgv_off(void)
{
    kgv_word msr;
    __asm__ volatile("mfmsr %0" : "=r"(msr));
    __asm__ volatile("mtmsr %0" : : "r"(msr & ~0x8000ul) : "memory");
    return msr;
}

static inline void kgv_on(kgv_word msr)
{
    __asm__ volatile("mtmsr %0" : : "r"(msr) : "memory");
}

/* The running thread's place, made if need be: nobody else makes or changes it. */
static inline struct kgv_thread *kgv_mine(void)
{
    kgv_word id = KGV_CURRENT, step;
    for (step = 0; step < KGV_STEPS; step++) {
        struct kgv_thread *thread = kgv_at(id, step);
        kgv_word found = thread->id;
        if (found == id)
            return thread;
        if (!found) {
            if (__atomic_compare_exchange_n(&thread->id, &found, id, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
                thread->base = kgv_now();
                return thread;
            }
        }
    }
    return 0;
}

static inline void kgv_keep(kgv_word *words, kgv_time time)
{
    words[0] = time >> 32;
    words[1] = time;
}

static inline kgv_time kgv_kept(const kgv_word *words)
{
    return (kgv_time)words[0] << 32 | words[1];
}

void kgp_begin(struct kgp_exit *call)
{
    kgv_word msr = kgv_off();
    struct kgv_thread *mine = kgv_mine();
    call->kept[0] = (kgv_word)mine;
    if (mine) {
        kgv_time now;
        kgv_keep(call->kept + 1, mine->inner);
        mine->inner = 0;
        now = kgv_now();
        kgv_keep(call->kept + 3, now);
        kgv_keep(call->kept + 5, now - mine->base);
    } else
        __atomic_fetch_add(&KGV_FULL, 1, __ATOMIC_RELAXED);
    kgv_on(msr);
}

void kgv_end(struct kgp_exit *call)
{
    kgv_word msr = kgv_off();
    kgv_time now = kgv_now();
    struct kgv_thread *mine = (struct kgv_thread *)call->kept[0];
    if (mine) {
        struct kgv_totals *totals = &kgv_totals[kgp_cpu()];
        kgv_time inclusive = now - mine->base - kgv_kept(call->kept + 5);
        totals->changes++;
        totals->calls++;
        totals->inclusive += inclusive;
        totals->exclusive += inclusive - mine->inner;
        totals->elapsed += now - kgv_kept(call->kept + 3);
        if (inclusive > totals->longest)
            totals->longest = inclusive;
        totals->buckets[inclusive >> 32 ? 63 - __builtin_clzl(inclusive >> 32) :
                        inclusive ? 31 - __builtin_clzl((kgv_word)inclusive) : 0]++;
        totals->changes++;
        mine->inner = kgv_kept(call->kept + 1) + inclusive;
    }
    kgv_on(msr);
}
#endif
