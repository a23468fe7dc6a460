# One case after the other on a bare MPC750 in real mode. Cases lie from the word at CURRENT on up
# to END, results go to where RESULT says. Nothing but low memory, addressed from r0-as-zero, is
# used to keep things in, so that every register and special register is the case's own.
#
# A case begins with SRR0, SRR1, CR, LR, CTR and XER; r0 is at 32. The file that includes this sets
# CASE_BYTES and RESULT_BYTES and has the labels `ended` and `load`.

        .equ SAVED1, 0x2000             # r1 at the end of a case
        .equ VECTOR, 0x2004             # where it ended
        .equ CURRENT, 0x2008            # the case that runs
        .equ RESULT, 0x200c             # where its result goes
        .equ END, 0x2010                # behind the last case

        .macro vector address
        .org \address
        stw 1, SAVED1(0)
        li 1, \address
        b ended
        .endm

        .macro vectors first, last      # one every 0x100 bytes
        .set vector_at, \first
        .rept (\last - \first) / 0x100 + 1
        vector vector_at
        .set vector_at, vector_at + 0x100
        .endr
        .endm

        # Keep r0 to r31, SRR0 and SRR1 of a case that ended at the vector in r1; r1 is its result's
        # address then and r2 free.
        .macro store_registers
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
        .endm

        # Keep CR, LR, CTR and XER at an offset from r1.
        .macro store_special at
        mfcr 2
        stw 2, \at(1)
        mflr 2
        stw 2, \at+4(1)
        mfctr 2
        stw 2, \at+8(1)
        mfxer 2
        stw 2, \at+12(1)
        .endm

        .macro next_case
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
        .endm

        # Go to the case at r1; the decrementer, if it is wanted, interrupts after some ticks.
        .macro enter_case ticks=0
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
        .if \ticks
        li 3, \ticks
        mtdec 3
        .endif
        lwz 0, 32(1)
        lmw 2, 40(1)
        lwz 1, 36(1)
        rfi
        .endm
