/* See that code preserves the registers that it must preserve. */
#include "asm.h"

        .set    KEPT, 32                /* frame: r13..r31 from here */
        .set    FRAME, 112
        .set    KEPT_CR, 0x5a5

        .text
        .p2align 2
/*
 * unsigned call_kept(unsigned (*function)(void *), void *argument): call it with patterns in r2,
 * r13-r31 and CR2-CR4, which it must give back; count in registers_lost when it does not.
 */
        .globl  _call_kept
_call_kept:
        mflr    r0
        stw     r0, 4(r1)
        stwu    r1, -FRAME(r1)
        mfcr    r0
        stw     r0, 8(r1)
        stw     r2, 12(r1)
        stmw    r13, KEPT(r1)
        mtctr   r3
        mr      r3, r4
        .irp    n, 2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        addis   r\n, r1, \n * 257
        .endr
        lis     r0, KEPT_CR >> 4
        ori     r0, r0, KEPT_CR << 12 & 0xffff
        mtcrf   0x38, r0
        bctrl
        li      r4, 0
        mfcr    r0
        rlwinm  r0, r0, 20, 20, 31      /* CR2, CR3, CR4 */
        xori    r0, r0, KEPT_CR
        or      r4, r4, r0
        .irp    n, 2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        addis   r0, r1, \n * 257
        xor     r0, r0, r\n
        or      r4, r4, r0
        .endr
        cmpwi   r4, 0
        lwz     r0, 8(r1)
        lwz     r2, 12(r1)
        lmw     r13, KEPT(r1)
        beq+    Lkept
        lis     r5, _registers_lost@ha
        lwz     r6, _registers_lost@l(r5)
        addi    r6, r6, 1
        stw     r6, _registers_lost@l(r5)
Lkept:
        mtcrf   0xff, r0
        lwz     r0, FRAME+4(r1)
        mtlr    r0
        addi    r1, r1, FRAME
        blr

        .comm   _registers_lost, 4, 4
