# Run cases on a bare MPC750: load a state, run one word, store the state, next case (see layout.py).
#
# A word that traps ends at a vector, as does a branch, whose targets are trap words; otherwise the
# slot that holds the word ends with a branch to `finished`.

        .include "cases.s"

        .equ WINDOW, 0x4000             # the memory that a case may use
        .ifdef ALTIVEC
        .equ CASE_BYTES, 704+528
        .equ RESULT_BYTES, 736+528
        .else
        .equ CASE_BYTES, 704
        .equ RESULT_BYTES, 736
        .endif

        .macro units_on                 # MSR[FP] and [ME], and [VEC] where it is
        li 3, 0x3000
        .ifdef ALTIVEC
        oris 3, 3, 0x200
        .endif
        mtmsr 3
        isync
        .endm

        .text
        vectors 0x100, 0x1700

        .org 0x1800
finished:
        stw 1, SAVED1(0)
        li 1, 0
ended:
        store_registers
        mfmsr 2
        stw 2, 12(1)
        units_on
        store_special 16
        .set n, 0
        .rept 32
        stfd n, 160+8*n(1)
        .set n, n+1
        .endr
        mffs 0
        stfd 0, 704(1)
        .ifdef ALTIVEC
        .set n, 0
        .rept 32
        li 2, 736+16*n
        stvx n, 2, 1
        .set n, n+1
        .endr
        mfvscr 0
        li 2, 736+512
        stvx 0, 2, 1
        mfspr 2, 256
        stw 2, 736+512(1)
        .endif
        .set n, 0
        .rept 3
        lmw 8, WINDOW+96*n(0)
        stmw 8, 416+96*n(1)
        .set n, n+1
        .endr
        next_case

        .globl start
start:  units_on
        lwz 1, CURRENT(0)
load:
        .ifdef ALTIVEC
        li 2, 704+512
        lvx 0, 2, 1
        mtvscr 0
        .set n, 0
        .rept 32
        li 2, 704+16*n
        lvx n, 2, 1
        .set n, n+1
        .endr
        lwz 2, 704+512(1)
        mtspr 256, 2
        .endif
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
        enter_case
