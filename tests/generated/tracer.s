# What a Linux kernel has called at ftrace entries: given LR in r0, it keeps all that its caller has but CTR.
# The function that it calls stands for any tracer.
        .text
        .globl _mcount, ftrace_caller, ftrace_call
        .type ftrace_caller, @function
_mcount:
ftrace_caller:
        stwu 1, -80(1)
        stw 0, 84(1)
        stw 3, 12(1)
        mflr 3
        stw 3, 8(1)
        .set n, 4
        .rept 9
        stw n, 4 * n(1)
        .set n, n + 1
        .endr
        mfcr 4
        stw 4, 52(1)
        mfxer 4
        stw 4, 56(1)
ftrace_call:
        bl scribble
        lwz 4, 56(1)
        mtxer 4
        lwz 4, 52(1)
        mtcr 4
        lwz 0, 8(1)
        mtctr 0
        .set n, 3
        .rept 10
        lwz n, 4 * n(1)
        .set n, n + 1
        .endr
        lwz 0, 84(1)
        mtlr 0
        addi 1, 1, 80
        bctr
        .size ftrace_caller, . - ftrace_caller

        .section .note.GNU-stack, "", @progbits
