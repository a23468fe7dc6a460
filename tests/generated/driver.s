# Run compiled programs on a bare MPC750 whose low 256 MiB are mapped. An exception ends a run: `ended(vector, srr0)` of driver.c.

        .equ STACK, 0x000f0000          # of the driver
        .equ PAGES, 0x000e0000          # 64 KiB of zeros: an empty hashed page table

        .macro stack
        lis 1, STACK@h
        ori 1, 1, STACK@l
        li 0, 0
        stwu 0, -16(1)
        .endm

        .text
        .set at, 0x100
        .rept 0x13
        .org at
        li 3, at
        b exception
        .set at, at + 0x100
        .endr

        .org 0x1800
exception:
        lis 5, 0x7fff
        mtdec 5
        mfsrr0 4
        li 5, 0
        stack
        b ended

        .org 0x2f00
        .globl _start
_start: lis 3, PAGES@h                  # no page is mapped but by BATs: addresses that are junk fault
        mtsdr1 3
        li 3, 0x1ffe                    # 256 MiB, supervisor
        li 4, 2                         # read and write
        mtibatu 0, 3
        mtibatl 0, 4
        mtdbatu 0, 3
        mtdbatl 0, 4
        isync
        stack
        b next

# run(entry, stack, r2, r13, ticks): call entry() with known words in what a callee must preserve.
# Its result and what it did not preserve go to `ended`, with no vector.
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
        li 3, 0x3030                    # FP, ME, IR, DR
        ori 3, 3, 0x8000                # EE: the decrementer ends what does not end
        mtmsr 3
        isync
        bctrl
        lis 5, 0x7fff
        mtdec 5
        li 5, 0x3000
        mtmsr 5
        isync
        mfcr 5
        rlwinm 5, 5, 0, 8, 19           # CR2 to CR4
        xoris 5, 5, 0x005a
        .set n, 14
        .rept 18
        lis 4, 0x1234
        ori 4, 4, n
        xor 4, 4, n
        or 5, 5, 4
        .set n, n + 1
        .endr
        mr 4, 3
        li 3, 0
        stack
        b ended

        .section .note.GNU-stack, "", @progbits
