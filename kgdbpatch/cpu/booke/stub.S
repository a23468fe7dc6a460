# The kernel component of the e500v1 and e500v2: what is theirs of it; the rest is ../obey.S.
#
# They have no real mode. It runs in the other address space (MSR[IS]=MSR[DS]=1), which kernels leave
# alone: wired entries of TLB1 map physical memory at its own addresses there (window.py). It goes home
# by rfci: what an exception has put into SRR0 and SRR1 stays.
# Cache lines are 32 bytes (E500CORERM 11.1; L1CFG0[CBSIZE] is looked at before it is called).

        .set    LINE_SHIFT, 5           # `line` in family.py, too

        .set    SRR0, 26
        .set    SRR1, 27
        .set    PID0, 48
        .set    CSRR0, 58
        .set    CSRR1, 59
        .set    IVPR, 63
        .set    TBL, 268                # to be read; mftb is no instruction of Book E
        .set    TBU, 269
        .set    PVR, 287
        .set    IVOR6, 406
        .set    MAS0, 624
        .set    MAS1, 625
        .set    MAS2, 626
        .set    MAS3, 627
        .set    TLB1CFG, 689
        .set    MAS7, 944
        .set    HID0, 1008

        .set    BLOCK_MAS, 0x50         # behind the call block (layout.py), 5 words of 12
        .set    ENTRIES, 16             # of TLB1

        .set    HOME_PC, CSRR0
        .set    HOME_MSR, CSRR1
        .macro  return
        rfci
        .endm

        .macro  own_commands
        cmpwi   7, OP_TLB
        beq     tlb
        .endm

        .include "obey.S"

# keep_mas: write down the registers that TLB instructions work with; an interrupted miss needs them.
# give_mas: give them back. Both change r0.
keep_mas:
        .set    at, BLOCK_MAS
        .irp    spr, MAS0, MAS1, MAS2, MAS3, MAS7
        mfspr   0, \spr
        stw     0, at(3)
        .set    at, at + 4
        .endr
        blr
give_mas:
        .set    at, BLOCK_MAS
        .irp    spr, MAS0, MAS1, MAS2, MAS3, MAS7
        lwz     0, at(3)
        mtspr   \spr, 0
        .set    at, at + 4
        .endr
        blr

# select: have the TLB instructions mean the entry of TLB1 whose number is in the low six bits of r11.
# Changes r0.
        .macro  select
        rlwinm  0, 11, 16, 10, 15       # MAS0[ESEL]
        oris    0, 0, 0x1000            # MAS0[TLBSEL]: TLB1
        mtspr   MAS0, 0
        isync
        .endm

# state: write what the debugger cannot read to physical a: PVR HID0 SRR0 SRR1 CSRR0 CSRR1 PID0 TLB1CFG
# DEC IVPR IVOR6 TBU TBL, a word of nothing, and of each entry of TLB1 its MAS1 MAS2 MAS3 MAS7.
state:
        .set    at, 0
        .irp    spr, PVR, HID0, SRR0, SRR1, CSRR0, CSRR1, PID0, TLB1CFG, DEC, IVPR, IVOR6
        mfspr   11, \spr
        stw     11, at(8)
        .set    at, at + 4
        .endr
1:      mfspr   11, TBU
        mfspr   12, TBL
        mfspr   0, TBU
        cmplw   0, 11
        bne     1b
        stw     11, at(8)
        stw     12, at+4(8)
        .set    at, at + 12
        bl      keep_mas
        addi    8, 8, at
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
