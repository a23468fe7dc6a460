/* Save and load the floating-point registers. */
#include "asm.h"

        .text
        .p2align 2
/* void fp_save(struct fp_state *to): needs MSR[FP]. */
        .globl  _fp_save
_fp_save:
        .set    at, 0
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        stfd    f\n, at(r3)
        .set    at, at + 8
        .endr
        mffs    f0
        stfd    f0, at(r3)
        lfd     f0, 0(r3)
        blr

/* void fp_load(const struct fp_state *from): needs MSR[FP]. */
        .globl  _fp_load
_fp_load:
        lfd     f0, 256(r3)
        mtfsf   0xff, f0
        .set    at, 0
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        lfd     f\n, at(r3)
        .set    at, at + 8
        .endr
        blr

/* void fp_enable(void): MSR[FP] on; interrupts are off. */
        .globl  _fp_enable
_fp_enable:
        mfmsr   r3
        ori     r3, r3, MSR_FP
        mtmsr   r3
        isync
        blr
