# Run cases on a bare MPC750 in real mode: load a state, go to its entry, store the state where it lands.
#
# Cases lie from the word at CURRENT on, results go to where RESULT says (see machine.py for the
# fields). Nothing but low memory, addressed from r0-as-zero, is used to keep things in, so that every
# register is the case's own. Memory is zero wherever no case has put a word: that is no
# instruction, so that every branch ends at vector 0x700 with SRR0 telling where it went. What
# loops for ever is ended by the decrementer, as soon as it interrupts the site itself.

        .equ SAVED1, 0x2000
        .equ VECTOR, 0x2004
        .equ CURRENT, 0x2008
        .equ RESULT, 0x200c
        .equ END, 0x2010
        .equ SAVED2, 0x2014
        .equ SAVEDCR, 0x2018
        .equ TRIES, 0x201c

        .equ CASE_BYTES, 160
        .equ RESULT_BYTES, 160
        .equ SITE, 24                   # in a case
        .equ LIMIT, 400                 # tries to interrupt a loop at its site
        .equ PATIENCE, 60               # ticks until a case counts as a loop

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

        vector 0xd00
        vector 0xe00
        vector 0xf00
        vector 0x1000
        vector 0x1100
        vector 0x1200
        vector 0x1300

        .org 0x1800
ended:
        stw 1, VECTOR(0)
        lwz 1, RESULT(0)
        stw 0, 32(1)
        stmw 2, 40(1)
        lis 2, 0x7fff
        mtdec 2
        lwz 2, SAVED1(0)
        stw 2, 36(1)
        lwz 2, VECTOR(0)
        stw 2, 0(1)
        mfsrr0 2
        stw 2, 4(1)
        mfsrr1 2
        stw 2, 8(1)
        mfcr 2
        stw 2, 12(1)
        mflr 2
        stw 2, 16(1)
        mfctr 2
        stw 2, 20(1)
        mfxer 2
        stw 2, 24(1)
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
        lwz 3, 8(1)
        mtcrf 0xff, 3
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
        li 3, PATIENCE
        mtdec 3
        lwz 0, 32(1)
        lmw 2, 40(1)
        lwz 1, 36(1)
        rfi
