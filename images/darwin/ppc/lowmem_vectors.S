/*
 * The exception vectors and the code that runs with address translation off.
 *
 * Each vector finds the frame for the interrupted context: below the red zone of the interrupted
 * stack (kernel stacks are mapped one-to-one, so r1 is a physical address too), or at the top of the
 * kernel stack when a user process was interrupted. One common path saves the context there and
 * enters C with translation on. SPRG0 points to
 * per_proc; SPRG2 and SPRG3 are scratch. Virtual pages 0 and 1 are mapped nowhere: this code is
 * reached by exceptions only, what has to be reached by a branch lies at 0x2000 and above.
 */
#include "asm.h"

        .section .vectors, "ax"
        .globl  _ExceptionVectorsStart
_ExceptionVectorsStart:
        .long   0

        .macro  vector offset
        .org    0x\offset
.L_handler\offset:
        mtsprg  2, r13
        mtsprg  3, r11
        mfsprg  r13, 0
        stw     r12, PP_SAVE_R12(r13)
        mfcr    r12
        stw     r12, PP_SAVE_CR(r13)
        mfsrr1  r11
        lwz     r12, PP_USER_FRAME(r13)
        andi.   r11, r11, MSR_PR
        li      r11, 0x\offset
        bne     .L_save_context         /* a user process: its r1 is no kernel stack */
        lwz     r12, PP_STACK_LOW(r13)
        cmplw   r1, r12
        lwz     r12, PP_STACK_HIGH(r13)
        blt-    .L_bad_stack
        cmplw   r1, r12
        addi    r12, r1, -(RED_ZONE + FRAME_SIZE)
        bgt-    .L_bad_stack
        b       .L_save_context
        .endm

        vector  100                     /* system reset */
        vector  200                     /* machine check */
        vector  300                     /* data access */
        vector  400                     /* instruction access */
        vector  500                     /* external interrupt */
        vector  600                     /* alignment */
        vector  700                     /* program */
        vector  800                     /* floating point unavailable */
        vector  900                     /* decrementer */
        vector  A00                     /* reserved */
        vector  B00                     /* reserved */
        vector  C00                     /* system call */
        vector  D00                     /* trace */
        vector  E00                     /* floating point assist (not on the 750) */
        vector  F00                     /* performance monitor */
        vector  1000                    /* TLB misses: 603 only */
        vector  1100
        vector  1200
        vector  1300                    /* instruction address breakpoint */
        vector  1400                    /* system management */
        vector  1500                    /* reserved */
        vector  1600                    /* reserved (AltiVec assist on the 7400) */
        vector  1700                    /* thermal management */

        .org    0x2000
.L_save_context:
        rlwinm  r12, r12, 0, 0, 27
        stw     r1, 0(r12)
        stw     r0, SS_R(0)(r12)
        stw     r1, SS_R(1)(r12)
        stw     r2, SS_R(2)(r12)
        stw     r3, SS_R(3)(r12)
        stw     r4, SS_R(4)(r12)
        stw     r5, SS_R(5)(r12)
        stw     r6, SS_R(6)(r12)
        stw     r7, SS_R(7)(r12)
        stw     r8, SS_R(8)(r12)
        stw     r9, SS_R(9)(r12)
        stw     r10, SS_R(10)(r12)
        mfsprg  r3, 3
        lwz     r4, PP_SAVE_R12(r13)
        mfsprg  r5, 2
        stw     r3, SS_R(11)(r12)
        stw     r4, SS_R(12)(r12)
        stw     r5, SS_R(13)(r12)
        stmw    r14, SS_R(14)(r12)
        mfsrr0  r3
        mfsrr1  r4
        lwz     r5, PP_SAVE_CR(r13)
        mflr    r6
        mfctr   r7
        mfxer   r8
        mfdar   r9
        mfdsisr r10
        stw     r3, SS_SRR0(r12)
        stw     r4, SS_SRR1(r12)
        stw     r5, SS_CR(r12)
        stw     r6, SS_LR(r12)
        stw     r7, SS_CTR(r12)
        stw     r8, SS_XER(r12)
        stw     r9, SS_DAR(r12)
        stw     r10, SS_DSISR(r12)
        stw     r11, SS_EXCEPTION(r12)
        mr      r1, r12
        addi    r3, r1, FRAME_SAVEAREA
        lis     r4, _exception_handler@ha
        addi    r4, r4, _exception_handler@l
        li      r5, MSR_KERNEL
        lis     r6, _exception_exit@ha
        addi    r6, r6, _exception_exit@l
        mtlr    r6
        mtsrr0  r4
        mtsrr1  r5
        rfi

.L_bad_stack:                           /* leave that stack alone, tell C by a flag */
        lwz     r12, PP_PANIC_STACK(r13)
        ori     r11, r11, T_BAD_STACK
        b       .L_save_context

/* Return from an exception, or leave for user mode: r1 is the frame; translation goes off here. */
        .globl  _exception_exit
        .globl  _thread_exception_return
_exception_exit:
_thread_exception_return:
        li      r0, MSR_ME
        mtmsr   r0
        isync
        addi    r3, r1, SS_SCRATCH
        stwcx.  r0, 0, r3               /* the interrupted code's reservation is lost */
        lwz     r3, SS_SRR0(r1)
        lwz     r4, SS_SRR1(r1)
        lwz     r5, SS_CR(r1)
        lwz     r6, SS_LR(r1)
        lwz     r7, SS_CTR(r1)
        lwz     r8, SS_XER(r1)
        li      r9, 0
        stw     r9, SS_SRR1(r1)         /* what stays on the stack is no context any more */
        mtsrr0  r3
        mtsrr1  r4
        mtcrf   0xff, r5
        mtlr    r6
        mtctr   r7
        mtxer   r8
        lwz     r0, SS_R(0)(r1)
        lwz     r2, SS_R(2)(r1)
        lmw     r3, SS_R(3)(r1)
        lwz     r1, SS_R(1)(r1)
        rfi
        .globl  _ExceptionVectorsEnd
_ExceptionVectorsEnd:
        .long   0
