/* Mutexes: taken by an atomic operation, waited for by sleeping. */
#include "kern.h"
#include "ppc.h"

uint32_t mutex_waits;

void mutex_init(struct mutex *m)
{
    m->owner = m->waiters = 0;
}

int mutex_try(struct mutex *m)
{
    return hw_lock_try(&m->owner, (unsigned)current_thread());
}

static void mutex_lock_wait(struct mutex *m)
{
    spl_t s = splhigh();
    if (m->owner != 0) {
        m->waiters = 1;
        mutex_waits++;
        tsleep(m, 0);
    }
    splx(s);
}

void mutex_lock(struct mutex *m)
{
    if (m->owner == (unsigned)current_thread())
        panic("mutex_lock: %s holds %p already", current_thread()->name, (void *)m);
    while (!hw_lock_try(&m->owner, (unsigned)current_thread()))
        mutex_lock_wait(m);
}

void mutex_unlock(struct mutex *m)
{
    unsigned owner = hw_lock_unlock(&m->owner);
    if (owner != (unsigned)current_thread())
        panic("mutex_unlock: %p is not held by %s", (void *)m, current_thread()->name);
    if (m->waiters) {
        m->waiters = 0;
        thread_wakeup(m);
    }
}
