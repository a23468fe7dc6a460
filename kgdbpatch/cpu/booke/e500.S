# The kernel component of the e500v1 and e500v2: what is theirs of it; the rest is book_e.S.
#
# Cache lines are 32 bytes (E500CORERM 11.1; L1CFG0[CBSIZE] is looked at before it is called).

        .set    LINE_SHIFT, 5           # `line` in family.py, too

        .set    MAS0, 624
        .set    MAS1, 625
        .set    MAS2, 626
        .set    MAS3, 627
        .set    TLB1CFG, 689
        .set    MAS7, 944
        .set    HID0, 1008

        .set    ENTRIES, 16             # of TLB1

        .macro  all_fetched
        .endm

        .include "booke/book_e.S"

keep_mas:
        keep    MAS0, MAS1, MAS2, MAS3, MAS7
        blr
give_mas:
        give    MAS0, MAS1, MAS2, MAS3, MAS7
        blr

# select: have the TLB instructions mean the entry of TLB1 whose number is in the low six bits of r11.
# Changes r0.
        .macro  select
        rlwinm  0, 11, 16, 10, 15       # MAS0[ESEL]
        oris    0, 0, 0x1000            # MAS0[TLBSEL]: TLB1
        mtspr   MAS0, 0
        isync
        .endm

# state: write what the debugger cannot read to physical a: registers, the clock, and of each entry of TLB1
# its MAS1 MAS2 MAS3 MAS7.
state:
        note    PVR, HID0, SRR0, SRR1, CSRR0, CSRR1, PID, TLB1CFG, DEC, IVPR, IVOR6
        addi    8, 8, at+12     # behind a word of nothing
        bl      keep_mas
        li      11, 0
2:      select
        tlbre
        isync
        .set    at, 0
        .irp    spr, MAS1, MAS2, MAS3, MAS7
        mfspr   12, \spr
        stw     12, at(8)
        .set    at, at + 4
        .endr
        addi    8, 8, at
        addi    11, 11, 1
        cmpwi   11, ENTRIES
        blt     2b
        bl      give_mas
        b       advance

# tlb: give an entry of TLB1 MAS2 (a), MAS3 (b) and MAS1 (c, its number in the low six bits), unless
# it is valid already and another's. Result: the MAS1 found. With 0x80 in c the entry is given back:
# whatever it has is replaced.
tlb:
        bl      keep_mas
        mr      11, 10
        select
        tlbre
        isync
        mfspr   11, MAS1
        stw     11, COMMAND_RESULT(4)
        rlwinm  12, 10, 0, 0, 23        # the MAS1 that it is to have
        andi.   0, 10, 0x80
        bne     1f
        cmpwi   11, 0
        bge     1f                      # V clear: free
        cmplw   11, 12
        bne     2f
        mfspr   0, MAS2
        xor     0, 0, 8
        rlwinm. 0, 0, 0, 0, 19          # another page
        bne     2f
        mfspr   0, MAS3
        xor     0, 0, 9
        rlwinm. 0, 0, 0, 0, 19          # of other memory
        bne     2f
1:      mr      11, 10
        select
        mtspr   MAS1, 12
        mtspr   MAS2, 8
        mtspr   MAS3, 9
        li      0, 0
        mtspr   MAS7, 0
        isync
        tlbwe
        sync
        isync
        bl      give_mas
        b       advance
2:      bl      give_mas
        b       failed
        .globl  end
end:
