# The kernel component of the 405: what is its own of it; the rest is ../obey.S.
#
# It runs in real mode (MSR[IR]=MSR[DR]=0), so it depends on no entry of the TLB, and goes home by rfci: what an
# exception has put into SRR0 and SRR1 stays. Cache lines are 32 bytes. The instruction cache is indexed by
# effective addresses, of which a page that is mapped elsewhere has other ones than physical memory (PPC405 core
# user's manual, "Instruction cache synonyms"): icbi here need not find it, so all of it is made invalid besides.

        .set    LINE_SHIFT, 5           # `line` in family.py, too

        .set    SRR0, 26
        .set    SRR1, 27
        .set    TBL, 268
        .set    TBU, 269
        .set    PVR, 287
        .set    ZPR, 944
        .set    PID, 945
        .set    EVPR, 982
        .set    PIT, 987
        .set    SRR2, 990
        .set    SRR3, 991
        .set    ENTRIES, 64

        .set    DEC, PIT
        .set    HOME_PC, SRR2
        .set    HOME_MSR, SRR3
        .macro  return
        rfci
        .endm

        .macro  own_commands
        .endm

        .macro  all_fetched
        iccci   0, 0
        .endm

        .include "obey.S"

# state: write what the debugger cannot read to physical a: PVR SRR0 SRR1 SRR2 SRR3 PID ZPR PIT EVPR, TBU TBL, and of
# each entry of the TLB its two words and its TID, which `tlbre` of the first puts into PID.
state:
        note    PVR, SRR0, SRR1, SRR2, SRR3, PID, ZPR, PIT, EVPR
        addi    8, 8, at+8
        mfspr   9, PID
        li      11, 0
2:      tlbre   12, 11, 0
        stw     12, 0(8)
        mfspr   12, PID
        stw     12, 8(8)
        tlbre   12, 11, 1
        stw     12, 4(8)
        addi    8, 8, 12
        addi    11, 11, 1
        cmpwi   11, ENTRIES
        blt     2b
        mtspr   PID, 9
        isync
        b       advance
        .globl  end
end:
