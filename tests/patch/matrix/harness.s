# Run cases on a bare MPC750: load a state, go to its entry, store the state where it lands (see machine.py).
#
# Memory is zero wherever no case has put a word: that is no instruction, so that every branch ends
# at vector 0x700 with SRR0 telling where it went. What loops for ever is ended by the decrementer,
# as soon as it interrupts the site itself.

        .include "cases.s"

        .equ SAVED2, 0x2014
        .equ SAVEDCR, 0x2018
        .equ TRIES, 0x201c

        .equ CASE_BYTES, 160
        .equ RESULT_BYTES, 160
        .equ SITE, 24                   # in a case
        .equ LIMIT, 400                 # tries to interrupt a loop at its site
        .equ PATIENCE, 60               # ticks until a case counts as a loop

        .text
        vectors 0x100, 0x800

        .org 0x900
        stw 1, SAVED1(0)
        stw 2, SAVED2(0)
        mfcr 2
        stw 2, SAVEDCR(0)
        lwz 1, CURRENT(0)
        lwz 1, SITE(1)
        mfsrr0 2
        cmplw 1, 2
        beq 1f
        lwz 1, TRIES(0)
        addi 1, 1, 1
        stw 1, TRIES(0)
        cmpwi 1, LIMIT
        bgt 1f
        mtdec 1
        lwz 2, SAVEDCR(0)
        mtcrf 0xff, 2
        lwz 2, SAVED2(0)
        lwz 1, SAVED1(0)
        rfi
1:      lwz 2, SAVEDCR(0)
        mtcrf 0xff, 2
        lwz 2, SAVED2(0)
        li 1, 0x900
        b ended

        .org 0xc00                      # a system call that does nothing
        rfi

        vectors 0xd00, 0x1300

        .org 0x1800
ended:
        store_registers
        lis 2, 0x7fff
        mtdec 2
        store_special 12
        next_case

        .globl start
start:  lis 2, 0x7fff                   # take what the decrementer has left from the reset
        mtdec 2
        li 3, 0x1000
        ori 4, 3, 0x8000
        mtmsr 4
        isync
        mtmsr 3
        isync
        mtdec 2
        lwz 1, CURRENT(0)
load:
        li 2, 0
        stw 2, TRIES(0)
        enter_case PATIENCE
