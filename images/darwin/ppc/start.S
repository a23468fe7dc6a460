/* The kernel's entry: the booter comes here in real mode with r3 = boot arguments, r4 = 'MOSX'. */
#include "asm.h"

        .globl  _kernel_stack_size      /* absolute symbols, for debuggers */
        .set    _kernel_stack_size, KERNEL_STACK_SIZE
        .globl  _kernel_red_zone
        .set    _kernel_red_zone, RED_ZONE

        .section .text.start, "ax"
        .globl  _start
        .globl  __start
_start:
__start:
        li      r0, MSR_ME              /* exceptions go to 0x100..., translation and interrupts off */
        mtmsr   r0
        isync
        mr      r31, r3
        mr      r30, r4
        li      r0, 0                   /* no BAT of the firmware's stays valid */
        .irp    n, 0, 1, 2, 3
        mtibatu \n, r0
        mtdbatu \n, r0
        .endr
        isync
        mfspr   r3, 1008                /* HID0: invalidate the caches, then switch them on */
        ori     r4, r3, 0xcc00
        sync
        mtspr   1008, r4
        rlwinm  r4, r4, 0, 22, 19
        sync
        mtspr   1008, r4
        isync
        lis     r3, _per_proc_info@ha
        addi    r3, r3, _per_proc_info@l
        mtsprg  0, r3
        lis     r1, (_intstack + KERNEL_STACK_SIZE - 64)@ha
        addi    r1, r1, (_intstack + KERNEL_STACK_SIZE - 64)@l
        li      r0, 0
        stw     r0, 0(r1)
        mr      r3, r31
        mr      r4, r30
        bl      _ppc_init
        lis     r3, _machine_startup@ha
        addi    r3, r3, _machine_startup@l
        li      r4, MSR_KERNEL
        mtsrr0  r3
        mtsrr1  r4
        rfi
