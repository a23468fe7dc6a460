/* Floating-point leaf routines. */
        .text
        .p2align 2
/* double fp_dot(const double *a, const double *b, unsigned n) */
        .globl  _fp_dot
_fp_dot:
        fsub    f1, f1, f1
        mtctr   r5
        addi    r3, r3, -8
        addi    r4, r4, -8
Ldot:
        lfdu    f2, 8(r3)
        lfdu    f3, 8(r4)
        fmadd   f1, f2, f3, f1
        bdnz    Ldot
        blr

/* void fp_scale(float *values, unsigned n, float by) */
        .globl  _fp_scale
_fp_scale:
        mtctr   r4
        addi    r3, r3, -4
Lscale:
        lfs     f2, 4(r3)
        fmuls   f2, f2, f1
        stfsu   f2, 4(r3)
        bdnz    Lscale
        blr

/* int fp_compare(double a, double b): -1, 0 or 1. */
        .globl  _fp_compare
_fp_compare:
        fcmpu   cr7, f1, f2
        li      r3, 0
        beqlr   cr7
        li      r3, 1
        bgtlr   cr7
        li      r3, -1
        blr

/*
 * double fp_restore_check(double value, unsigned rounds): keep `value` and what is made of it in
 * all floating-point registers while counting (others use the FPU meanwhile); `value` when every
 * register held, else a NaN.
 */
        .globl  _fp_restore_check
_fp_restore_check:
        stwu    r1, -176(r1)
        .set    at, 16
        .irp    n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        stfd    f\n, at(r1)
        .set    at, at + 8
        .endr
        fmr     f0, f1
        .irp    n, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        fadd    f0, f0, f1
        fmr     f\n, f0
        .endr
        mtctr   r3
Lfp_spin:
        bdnz    Lfp_spin
        .irp    n, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2
        fcmpu   cr0, f\n, f0
        bne     Lfp_lost
        fsub    f0, f0, f1
        .endr
        b       Lfp_kept
Lfp_lost:
        fsub    f0, f0, f0
        fdiv    f1, f0, f0              /* not a number: equal to nothing */
Lfp_kept:
        .set    at, 16
        .irp    n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        lfd     f\n, at(r1)
        .set    at, at + 8
        .endr
        addi    r1, r1, 176
        blr
