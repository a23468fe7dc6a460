# void scribble(void): changes whatever a callee of System V may change, but for FP, which no payload has.
        .text
        .globl scribble
        .type scribble, @function
scribble:
        mflr 0
        stw 0, 4(1)
        stwu 1, -16(1)
        lis 0, 0x6bad
        .set n, 3
        .rept 10
        lis n, 0x6bad
        ori n, n, n
        .set n, n + 1
        .endr
        mtctr 0
        mtcrf 0xc7, 3                   # CR0, CR1, CR5 to CR7
        mtxer 3
        lwz 0, 20(1)
        mtlr 0
        addi 1, 1, 16
        lis 0, 0x6bad
        blr
        .size scribble, . - scribble

        .section .note.GNU-stack, "", @progbits
