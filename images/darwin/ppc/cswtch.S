/* Switch between kernel threads. */
#include "asm.h"

        .text
        .p2align 2
/* void switch_context(vm_offset_t *save_sp, vm_offset_t new_sp): interrupts are off. */
        .globl  _switch_context
_switch_context:
        mflr    r0
        stw     r0, 4(r1)
        stwu    r1, -SWITCH_FRAME(r1)
        mfcr    r5
        stw     r2, SWITCH_R2(r1)
        stw     r5, SWITCH_CR(r1)
        stmw    r13, SWITCH_R13(r1)
        stw     r1, 0(r3)
        addi    r6, r1, 8
        stwcx.  r0, 0, r6               /* no reservation survives a switch */
        mr      r1, r4
        mfmsr   r5
        rlwinm  r5, r5, 0, 19, 17       /* the FPU is another thread's */
        mtmsr   r5
        isync
Lswitch_in:
        lwz     r5, SWITCH_CR(r1)
        lwz     r2, SWITCH_R2(r1)
        lmw     r13, SWITCH_R13(r1)
        mtcrf   0xff, r5
        lwz     r0, SWITCH_FRAME+4(r1)
        mtlr    r0
        addi    r1, r1, SWITCH_FRAME
        blr

/* Where a new thread comes to life: see thread_create. */
        .globl  _thread_bootstrap
_thread_bootstrap:
        bl      _thread_begin
Lnever:
        trap
        b       Lnever

/* void enter_user(vm_offset_t frame): leave for user mode with the context saved there. */
        .globl  _enter_user
_enter_user:
        mr      r1, r3
        b       _thread_exception_return
