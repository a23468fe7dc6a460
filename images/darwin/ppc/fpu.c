/*
 * The floating-point unit, switched when it is used: MSR[FP] is off until a thread's first
 * floating-point instruction traps here. Its registers stay its owner's until another thread's do.
 */
#include "kern.h"
#include "ppc.h"

uint32_t fpu_switches;

/* Give the FPU to the running thread; interrupts are off. */
void fpu_switch(struct savearea *sv)
{
    struct thread *self = current_thread(), *owner = per_proc_info.fpu_owner;
    if (owner != self) {
        fp_enable();
        if (owner)
            fp_save(&owner->fp);
        fp_load(&self->fp);
        per_proc_info.fpu_owner = self;
        fpu_switches++;
    }
    sv->srr1 |= MSR_FP;
}

/* Forget a thread's floating-point registers. */
void fpu_drop(const struct thread *thread)
{
    if (per_proc_info.fpu_owner == thread)
        per_proc_info.fpu_owner = NULL;
}
