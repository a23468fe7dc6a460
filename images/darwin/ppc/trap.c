/* Exceptions, seen from C: interrupts are off, translation is on, `sv` is the interrupted context. */
#include "kern.h"
#include "ppc.h"
#include "task.h"
#include "vm.h"

#define DSISR_PROTECTION 0x08000000u
#define DSISR_STORE 0x02000000u
#define SRR1_NO_TRANSLATION 0x40000000u
#define SRR1_PROGRAM 0x001f0000u
#define SRR1_FLOATING 0x00100000u
#define SRR1_PRIVILEGED 0x00040000u
#define SRR1_TRAP 0x00020000u

uint32_t exception_counts[32], trace_steps;
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

/* End a process for what it did; it may be seen in its parent's wait. */
static _Noreturn void exception(uint32_t signal)
{
    spl0();
    task_exit(signal);
}

static struct vm_map *map_of(vm_offset_t address, bool user)
{
    struct task *task = current_task();
    if (address >= VM_MIN_ADDRESS && address < VM_MAX_ADDRESS)
        return task ? &task->map : NULL;
    return user ? NULL : &kernel_map;
}

static int resolve_fault(struct savearea *sv, vm_offset_t address, bool store)
{
    struct vm_map *map = map_of(address, sv->srr1 & MSR_PR);
    if (map == NULL || !(sv->srr1 & MSR_EE) || per_proc_info.interrupt_level)
        return KERN_INVALID_ADDRESS;
    vm_offset_t recover = current_thread()->recover;
    spl0();
    int result = vm_fault(map, address, store);
    splhigh();
    current_thread()->recover = recover;
    return result;
}

/* Resolve a fault or see who is to blame: `forbidden` if the page is there, but not for this use. */
static void data_access(struct savearea *sv, vm_offset_t address, bool forbidden, bool store)
{
    int result = resolve_fault(sv, address, store);
    if (result == KERN_SUCCESS)
        return;
    if (sv->srr1 & MSR_PR)
        exception(forbidden || result == KERN_PROTECTION_FAILURE ? SIGBUS : SIGSEGV);
    if (current_thread() == NULL || current_thread()->recover == 0)
        unresolved_kernel_trap(sv);
    sv->srr0 = current_thread()->recover;
    current_thread()->recover = 0;
}

/* What a process's program exception (illegal, privileged, trap, floating point) comes to. */
static void program(struct savearea *sv)
{
    if (!(sv->srr1 & MSR_PR))
        unresolved_kernel_trap(sv);
    spl0();
    if (sv->srr1 & SRR1_PRIVILEGED && program_assist(sv))
        sv->srr1 &= ~SRR1_PROGRAM;
    else
        exception(sv->srr1 & SRR1_TRAP ? SIGTRAP : sv->srr1 & SRR1_FLOATING ? SIGFPE : SIGILL);
    splhigh();
}

static void alignment(struct savearea *sv)
{
    if (!(sv->srr1 & MSR_PR))
        unresolved_kernel_trap(sv);
    spl0();
    if (alignment_assist(sv))
        exception(SIGBUS);
    splhigh();
}

static void trace(struct savearea *sv)
{
    if (sv->srr1 & MSR_PR) {
        current_task()->steps++;
        trace_steps++;
    } else {
        sv->srr1 &= ~(MSR_SE | 0x200u);
    }
}

static void system_call(struct savearea *sv)
{
    if (!(sv->srr1 & MSR_PR))
        unresolved_kernel_trap(sv);
    spl0();
    unix_syscall(sv);
    splhigh();
}

void trap(struct savearea *sv)
{
    switch (sv->exception) {
    case T_DATA_ACCESS:
        data_access(sv, sv->dar, sv->dsisr & DSISR_PROTECTION, sv->dsisr & DSISR_STORE);
        break;
    case T_INSTRUCTION_ACCESS:
        data_access(sv, sv->srr0, !(sv->srr1 & SRR1_NO_TRANSLATION), false);
        sv->srr1 &= 0x87c0ffff; /* the status bits are no part of the MSR */
        break;
    case T_ALIGNMENT:
        alignment(sv);
        break;
    case T_PROGRAM:
        program(sv);
        break;
    case T_FP_UNAVAILABLE:
        fpu_switch(sv);
        break;
    case T_SYSTEM_CALL:
        system_call(sv);
        break;
    case T_TRACE:
        trace(sv);
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
    else
        pic_dispatch();
    per_proc_info.interrupt_level--;
    ast_check();
}

static uint32_t dispatch_exception(void *argument)
{
    struct savearea *sv = argument;
    if (sv->exception == T_DECREMENTER || sv->exception == T_INTERRUPT)
        interrupt(sv);
    else
        trap(sv);
    if (sv->srr1 & MSR_PR)
        ast_check();
    return 0;
}

void exception_handler(struct savearea *sv)
{
    exception_counts[sv->exception >> 8 & 31]++;
    call_kept(dispatch_exception, sv);
    if (per_proc_info.fpu_owner != current_thread())
        sv->srr1 &= ~MSR_FP; /* another thread took the FPU meanwhile */
}
