# Exceptions end the run of a program: the vector goes to r3, SRR0 to r4, then to `ended` in driver.c.

        .equ STACK, 0x000f0000

        .macro vector address
        .org \address
        li 3, \address
        b 9f
        .endm

        .text
        .set at, 0x100
        .rept 0x13
        .if at == 0x1300
        .org 0x1300
        li 3, 0x1300
        b 9f
        .else
        .org at
        li 3, at
        b 9f
        .endif
        .set at, at + 0x100
        .endr

        .org 0x1800
9:      mfsrr0 4
        lis 1, STACK@h
        ori 1, 1, STACK@l
        b ended

        .globl _start
_start: lis 1, STACK@h
        ori 1, 1, STACK@l
        b next

# void run(entry, stack, r2, r13, ticks): call entry() with known words in the callee-saved registers; never return.
        .globl run
run:    mtctr 3
        mr 1, 4
        mr 2, 5
        mr 13, 6
        mtdec 7
        li 0, 0
        stw 0, 0(1)
        .set n, 14
        .rept 18
        lis n, 0x1234
        ori n, n, n
        .set n, n + 1
        .endr
        lis 3, 0x5a5a
        mtcrf 0xff, 3
        li 3, -4096 + 0x1000 + 0x3002    # FP, ME
        ori 3, 3, 0xb000 - 0x3002 + 0x3002
        li 3, 0x3000
        ori 3, 3, 0x8000                 # EE
        mtmsr 3
        isync
        bctrl
        mfcr 4
        lis 5, 0x7fff
        mtdec 5
        li 5, 0x3000
        mtmsr 5
        isync
        rlwinm 4, 4, 0, 8, 19            # CR2 to CR4 are preserved
        xoris 4, 4, 0x5a5a & 0x00ff
        rlwinm 4, 4, 0, 8, 19
        .set n, 14
        .rept 18
        lis 5, 0x1234
        ori 5, 5, n
        xor 5, 5, n
        or 4, 4, 5
        .set n, n + 1
        .endr
        lis 1, STACK@h
        ori 1, 1, STACK@l
        mr 5, 4
        mr 4, 3
        li 3, 0
        b ended
