/* Exceptions, seen from C: interrupts are off, translation is on, `sv` is the interrupted context. */
#include "kern.h"
#include "ppc.h"
#include "vm.h"

#define DSISR_NO_TRANSLATION 0x40000000u
#define DSISR_STORE 0x02000000u
#define SRR1_NO_TRANSLATION 0x40000000u

uint32_t exception_counts[32];
static const char *const trap_names[32] = {
    "Unknown", "System reset", "Machine check", "Data access", "Inst access", "Ext int",
    "Alignment", "Program", "Floating point", "Decrementer", "n/a", "n/a", "System call", "Trace",
    "FP assist", "Perf mon", "TLB miss", "TLB miss", "TLB miss", "Inst bkpnt", "Sys mgmt", "n/a",
    "AltiVec", "Thermal",
};

static bool in_wired_memory(vm_offset_t address)
{
    return (address & 3) == 0 && pmap_extract(address) != 0;
}

static void backtrace(const struct savearea *sv)
{
    vm_offset_t frame = sv->r[1];
    kprintf("      Backtrace:\n         0x%08x 0x%08x", sv->srr0, sv->lr);
    for (int depth = 0; depth < 10 && in_wired_memory(frame); depth++) {
        vm_offset_t up = *(vm_offset_t *)frame;
        if (up <= frame || !in_wired_memory(up))
            break;
        kprintf(" 0x%08x", *(vm_offset_t *)(up + 4));
        frame = up;
    }
    kprintf("\n");
}

static const char *trap_name(uint32_t vector)
{
    const char *name = vector < 0x2000 ? trap_names[vector >> 8 & 31] : NULL;
    return name ? name : trap_names[0];
}

_Noreturn void unresolved_kernel_trap(const struct savearea *sv)
{
    static bool panicked;
    uint32_t vector = sv->exception & ~T_BAD_STACK;
    if (panicked)
        machine_halt();
    panicked = true;
    log_flush();
    kprintf("panic(cpu 0): Unresolved kernel trap: 0x%03x - %s DAR=0x%08x PC=0x%08x\n", vector,
            trap_name(vector), sv->dar, sv->srr0);
    kprintf("Latest crash info for cpu 0:\n   Exception state (sv=0x%08x)\n", (vm_offset_t)sv);
    kprintf("      PC=0x%08x; MSR=0x%08x; DAR=0x%08x; DSISR=0x%08x; LR=0x%08x; R1=0x%08x%s\n", sv->srr0,
            sv->srr1, sv->dar, sv->dsisr, sv->lr, sv->r[1],
            sv->exception & T_BAD_STACK ? " (not this thread's stack)" : "");
    backtrace(sv);
    kprintf("      Thread: %s\n", current_thread() ? current_thread()->name : "(none)");
    kprintf("We are hanging here...\n");
    machine_halt();
}

static void data_access(struct savearea *sv, vm_offset_t address, bool missing, bool store)
{
    if (!missing || !(sv->srr1 & MSR_EE) || per_proc_info.interrupt_level)
        unresolved_kernel_trap(sv);
    spl0();
    int result = vm_fault(address, store);
    splhigh();
    if (result != KERN_SUCCESS)
        unresolved_kernel_trap(sv);
}

void trap(struct savearea *sv)
{
    switch (sv->exception) {
    case T_DATA_ACCESS:
        data_access(sv, sv->dar, sv->dsisr & DSISR_NO_TRANSLATION, sv->dsisr & DSISR_STORE);
        break;
    case T_INSTRUCTION_ACCESS:
        data_access(sv, sv->srr0, sv->srr1 & SRR1_NO_TRANSLATION, false);
        sv->srr1 &= 0x87c0ffff; /* the status bits are no part of the MSR */
        break;
    case T_TRACE:
        sv->srr1 &= ~0x600u;
        break;
    default:
        unresolved_kernel_trap(sv);
    }
}

void interrupt(struct savearea *sv)
{
    per_proc_info.interrupt_level++;
    if (sv->exception == T_DECREMENTER)
        hardclock(sv->srr1 & MSR_EE);
    per_proc_info.interrupt_level--;
    ast_check();
}

void exception_handler(struct savearea *sv)
{
    exception_counts[sv->exception >> 8 & 31]++;
    if (sv->exception == T_DECREMENTER || sv->exception == T_INTERRUPT)
        interrupt(sv);
    else
        trap(sv);
}
