# The kernel component of the 440: what is its own; the rest is book_e.S.
#
# Cache lines are 32 bytes. The instruction cache is tagged by effective addresses and address spaces
# (PPC440 core user's manual, "Instruction cache coherency"): icbi here would not find what the kernel has
# fetched at addresses of its own, so all of it is made invalid besides.

        .set    LINE_SHIFT, 5           # `line` in family.py, too

        .set    IVOR13, 413
        .set    IVOR14, 414
        .set    MMUCR, 946
        .set    ENTRIES, 64
        .set    VALID, 0x200            # of an entry's first word

        .macro  all_fetched
        iccci   0, 0
        .endm

        .include "booke/book_e.S"

# state: write what the debugger cannot read to physical a: registers, the clock, and of each entry of the TLB
# its three words and MMUCR, whose last eight bits are its TID then.
state:
        note    PVR, SRR0, SRR1, CSRR0, CSRR1, PID, MMUCR, DEC, IVPR, IVOR6, IVOR13, IVOR14
        addi    8, 8, at+12     # behind a word of nothing
        keep    MMUCR
        li      11, 0
2:      tlbre   12, 11, 0
        stw     12, 0(8)
        mfspr   12, MMUCR
        stw     12, 12(8)
        tlbre   12, 11, 1
        stw     12, 4(8)
        tlbre   12, 11, 2
        stw     12, 8(8)
        addi    8, 8, 16
        addi    11, 11, 1
        cmpwi   11, ENTRIES
        blt     2b
        give    MMUCR
        b       advance

# tlb: give an entry its first word (a), its second (b), and its third (the lower half of c), of every process,
# unless it is valid already and another's; its number is in bits 10 to 15 of c. Result: the first word found.
# With 0x800000 in c the entry is given back: whatever it has is replaced.
tlb:
        keep    MMUCR
        rlwinm  11, 10, 16, 26, 31
        tlbre   12, 11, 0
        stw     12, COMMAND_RESULT(4)
        andis.  0, 10, 0x80
        bne     1f
        andi.   0, 12, VALID
        beq     1f
        cmplw   12, 8
        bne     2f
        tlbre   12, 11, 1
        cmplw   12, 9
        bne     2f
        b       3f
1:      li      0, 0
        mtspr   MMUCR, 0                # TID 0
        isync
        tlbwe   0, 11, 0                # not valid while it is neither the one nor the other
        rlwinm  12, 10, 0, 16, 31
        tlbwe   12, 11, 2
        tlbwe   9, 11, 1
        tlbwe   8, 11, 0
        isync
3:      give    MMUCR
        b       advance
2:      give    MMUCR
        b       failed
        .globl  end
end:
