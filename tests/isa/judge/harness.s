# Run cases on a bare MPC750 in real mode: load a state, run one word, store the state, next case.
#
# An array of cases lies at INPUT, results go to OUTPUT (see layout.py for the fields). Nothing but
# low memory, addressed from r0-as-zero, is used to keep things in, so that every register and
# special register is the case's own. A word that traps ends at a vector, as does a branch, whose
# targets are trap words; otherwise the slot that holds the word ends with a branch to `finished`.

        .equ SAVED1, 0x2000             # r1 at the end of a case
        .equ VECTOR, 0x2004             # where it ended: 0 is `finished`
        .equ CURRENT, 0x2008            # the case that runs
        .equ RESULT, 0x200c             # where its result goes
        .equ END, 0x2010                # behind the last case
        .equ WINDOW, 0x4000             # the memory that a case may use

        .equ CASE_BYTES, 704
        .equ RESULT_BYTES, 736

        .macro vector address
        .org \address
        stw 1, SAVED1(0)
        li 1, \address
        b ended
        .endm

        .text
        vector 0x100
        vector 0x200
        vector 0x300
        vector 0x400
        vector 0x500
        vector 0x600
        vector 0x700
        vector 0x800
        vector 0x900
        vector 0xa00
        vector 0xb00
        vector 0xc00
        vector 0xd00
        vector 0xe00
        vector 0xf00
        vector 0x1000
        vector 0x1100
        vector 0x1200
        vector 0x1300
        vector 0x1400
        vector 0x1500
        vector 0x1600
        vector 0x1700

        .org 0x1800
finished:
        stw 1, SAVED1(0)
        li 1, 0
ended:
        stw 1, VECTOR(0)
        lwz 1, RESULT(0)
        stw 0, 32(1)
        stmw 2, 40(1)
        lwz 2, SAVED1(0)
        stw 2, 36(1)
        lwz 2, VECTOR(0)
        stw 2, 0(1)
        mfsrr0 2
        stw 2, 4(1)
        mfsrr1 2
        stw 2, 8(1)
        mfmsr 2
        stw 2, 12(1)
        li 3, 0x3000                    # MSR[FP] and [ME]
        mtmsr 3
        isync
        mfcr 2
        stw 2, 16(1)
        mflr 2
        stw 2, 20(1)
        mfctr 2
        stw 2, 24(1)
        mfxer 2
        stw 2, 28(1)
        .set n, 0
        .rept 32
        stfd n, 160+8*n(1)
        .set n, n+1
        .endr
        mffs 0
        stfd 0, 704(1)
        .set n, 0
        .rept 3
        lmw 8, WINDOW+96*n(0)
        stmw 8, 416+96*n(1)
        .set n, n+1
        .endr
        addi 1, 1, RESULT_BYTES
        stw 1, RESULT(0)
        lwz 1, CURRENT(0)
        addi 1, 1, CASE_BYTES
        stw 1, CURRENT(0)
        lwz 2, END(0)
        cmplw 1, 2
        bne load
        .globl done
done:   b done

        .globl start
start:  li 3, 0x3000
        mtmsr 3
        isync
        lwz 1, CURRENT(0)
load:
        lwz 2, RESULT(0)
        .set n, 0
        .rept 3
        lmw 8, 416+96*n(1)
        stmw 8, WINDOW+96*n(0)
        .set n, n+1
        .endr
        lfd 0, 24(1)                    # its low word
        mtfsf 0xff, 0
        mffs 0                          # FEX and VX are made from the others
        stfd 0, 712(2)
        .set n, 0
        .rept 32
        lfd n, 160+8*n(1)
        .set n, n+1
        .endr
        lwz 3, 8(1)
        mtcr 3
        lwz 3, 12(1)
        mtlr 3
        lwz 3, 16(1)
        mtctr 3
        lwz 3, 20(1)
        mtxer 3
        lwz 3, 0(1)
        mtsrr0 3
        lwz 3, 4(1)
        mtsrr1 3
        lwz 0, 32(1)
        lmw 2, 40(1)
        lwz 1, 36(1)
        rfi
