# Run cases on a bare CPU of Book E: load a state, run one word, store the state, next case (see booke.py).
#
# The state lies from address 0 on: r0 to r31 as pairs of words, which SPE loads and stores reach without a base.
# A word that traps ends at `trapped`; otherwise its slot ends with a branch to `finished`.

        .equ CURRENT, 0x200
        .equ RESULT, 0x204
        .equ END, 0x208
        .equ KEPT, 0x20c
        .equ STATE, 0x100               # acc, spefscr, cr, xer, ctr, lr, entry, trapped
        .equ WORDS, 96

        .text
        .ifdef FIXED                    # where exceptions of a 405 enter
        .irp offset, 0x300, 0x400, 0x500, 0x600, 0x700, 0x800
        .org \offset
        b 8f
        .endr
        .endif
        .org 0x1000
        .globl trapped
trapped:                                # MSR[SPE] is off here
8:
        stw 3, KEPT(0)
        li 3, 1
        stw 3, STATE+32(0)
        .ifdef SPE
        lis 3, 0x200
        mtmsr 3
        isync
        .endif
        lwz 3, KEPT(0)
        .globl finished
finished:
        .set n, 0
        .rept 32
        .ifdef SPE
        evstdd n, 8*n(0)
        .else
        stw n, 8*n+4(0)
        .endif
        .set n, n+1
        .endr
        li 1, STATE
        .ifdef SPE
        evxor 2, 2, 2
        evmwumiaa 0, 2, 2               # of those that read the accumulator QEMU has few
        evstdd 0, 0(1)
        mfspr 0, 512
        stw 0, 8(1)
        .endif
        mfcr 0
        stw 0, 12(1)
        mfxer 0
        stw 0, 16(1)
        mfctr 0
        stw 0, 20(1)
        mflr 0
        stw 0, 24(1)
        lwz 4, RESULT(0)
        li 5, 0
        bl copy
        stw 4, RESULT(0)
        lwz 5, CURRENT(0)
        addi 5, 5, 4*WORDS
        stw 5, CURRENT(0)
next:
        lwz 5, CURRENT(0)
        lwz 6, END(0)
        cmplw 5, 6
        bge 9f
        li 4, 0
        bl copy
        li 1, STATE
        .ifdef SPE
        evldd 0, 0(1)
        evmra 0, 0
        lwz 0, 8(1)
        mtspr 512, 0
        .endif
        lwz 0, 12(1)
        mtcr 0
        lwz 0, 16(1)
        mtxer 0
        lwz 0, 20(1)
        mtctr 0
        lwz 0, 24(1)
        mtlr 0
        lwz 0, 28(1)
        mtspr 26, 0
        .ifdef SPE
        lis 0, 0x200
        .else
        li 0, 0
        .endif
        mtspr 27, 0
        .set n, 0
        .rept 32
        .ifdef SPE
        evldd n, 8*n(0)
        .else
        lwz n, 8*n+4(0)
        .endif
        .set n, n+1
        .endr
        rfi

copy:                                   # words from r5 to r4
        li 7, WORDS
        mtctr 7
1:      lwz 7, 0(5)
        stw 7, 0(4)
        addi 5, 5, 4
        addi 4, 4, 4
        bdnz 1b
        blr

        .globl done
done:
9:      b 9b

        .org 0x1800
        .globl _start
_start:
        li 3, 0
        .ifdef FIXED
        mtspr 982, 3                    # EVPR
        .else
        mtspr 63, 3
        li 3, 0x1000                    # trapped
        .irp ivor, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mtspr 400+\ivor, 3
        .endr
        .endif
        .ifdef SPE
        .irp ivor, 0, 1, 2
        mtspr 528+\ivor, 3
        .endr
        lis 3, 0x200
        mtmsr 3
        isync
        .endif
        li 1, 0x1ff0                    # parameters
        lwz 3, 0(1)
        stw 3, CURRENT(0)
        lwz 3, 4(1)
        stw 3, END(0)
        lwz 3, 8(1)
        stw 3, RESULT(0)
        b next
        .org 0x1ff0
        .globl parameters
parameters:
        .space 16
