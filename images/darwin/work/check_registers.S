/* See that interruptions and switches give every register back, and leave the red zone alone. */
#include "asm.h"

        .set    PATTERN, 0x5a5a
        .set    KEPT, 80                /* frame: r13..r31 from here */
        .set    FRAME, 160

        .text
        .p2align 2
/*
 * unsigned check_registers(unsigned rounds): fill r0, r2, r4-r31, CR, XER and the 224 bytes below
 * the stack pointer with patterns, count to `rounds` in CTR and r3, compare. The differences, or'd.
 */
        .globl  _check_registers
_check_registers:
        mflr    r0
        stw     r0, 4(r1)
        stwu    r1, -FRAME(r1)
        stmw    r13, KEPT(r1)
        mfcr    r0
        stw     r0, KEPT-4(r1)
        stw     r2, KEPT-8(r1)
        stw     r3, KEPT-12(r1)
        mtctr   r3
        .irp    n, 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        lis     r\n, \n
        ori     r\n, r\n, PATTERN
        .endr
        .set    at, -RED_ZONE
        .rept   RED_ZONE / 4
        stw     r31, at(r1)
        .set    at, at + 4
        .endr
        lis     r3, 0xa000              /* SO and CA */
        mtxer   r3
        lis     r3, 0x1248
        ori     r3, r3, 0x8421
        mtcrf   0xff, r3
        li      r3, 0
Lspin:
        addi    r3, r3, 1
        bdnz    Lspin
Lcompare_registers:
        .irp    n, 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        xoris   r\n, r\n, \n
        xori    r\n, r\n, PATTERN
        .endr
        .irp    n, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        or      r0, r0, r\n
        .endr
        lwz     r4, KEPT-12(r1)         /* did CTR and r3 count alike? */
        xor     r4, r4, r3
        or      r0, r0, r4
        mfcr    r4
        xoris   r4, r4, 0x1248
        xori    r4, r4, 0x8421
        or      r0, r0, r4
        mfxer   r4
        xoris   r4, r4, 0xa000
        or      r0, r0, r4
        lis     r5, 31
        ori     r5, r5, PATTERN
        li      r6, RED_ZONE / 4
        mtctr   r6
        addi    r6, r1, -RED_ZONE - 4
Lcompare_red_zone:
        lwzu    r4, 4(r6)
        xor     r4, r4, r5
        or      r0, r0, r4
        bdnz    Lcompare_red_zone
        mr      r3, r0
        li      r0, 0
        mtxer   r0
        lwz     r0, KEPT-4(r1)
        mtcrf   0xff, r0
        lwz     r2, KEPT-8(r1)
        lmw     r13, KEPT(r1)
        lwz     r0, FRAME+4(r1)
        mtlr    r0
        addi    r1, r1, FRAME
        blr
