/* Counters under a mutex and by atomic operations, shared by threads of different priorities. */
#include "kern.h"
#include "ppc.h"
#include "work.h"

static struct {
    struct mutex lock;
    uint32_t a, b, updates;
} shared;
static volatile unsigned atomic_up, atomic_down, atomic_bits;
static volatile unsigned atomic_busy;

void counters_init(void)
{
    mutex_init(&shared.lock);
}

static void counters_add(uint32_t n)
{
    shared.a += n;
    for (volatile int i = 0; i < 20; i++)
        ; /* leave room for a preemption between the two */
    shared.b += n;
    shared.updates++;
}

bool work_counters(uint32_t number)
{
    bool right = true;
    for (uint32_t i = 0; i < 10; i++) {
        if (i % 3 || !mutex_try(&shared.lock))
            mutex_lock(&shared.lock);
        right &= shared.a == shared.b;
        counters_add(number + i);
        if (i == 5)
            delay_ticks(1); /* others must wait for the mutex */
        right &= shared.a == shared.b;
        mutex_unlock(&shared.lock);
    }
    return right;
}

/* Raise a number by compare-and-store; what it was. */
static unsigned raise(volatile unsigned *p)
{
    unsigned old;
    do
        old = *p;
    while (!hw_compare_and_store(old, old + 1, p));
    return old;
}

bool work_atomics(uint32_t number)
{
    unsigned mine = 1u << (number & 15), before = raise(&atomic_busy);
    for (int i = 0; i < 50; i++) {
        hw_atomic_add(&atomic_up, 3);
        hw_atomic_sub(&atomic_down, 3);
        raise(&atomic_up);
        hw_atomic_sub(&atomic_down, 1);
    }
    hw_atomic_or(&atomic_bits, mine << 16);
    hw_atomic_and(&atomic_bits, ~(mine << 16));
    spl_t s = splhigh();
    bool right = before >= 2 || atomic_busy >= 2 || atomic_up + atomic_down == 0;
    splx(s);
    hw_atomic_sub(&atomic_busy, 1);
    return right;
}
