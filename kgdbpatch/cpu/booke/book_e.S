# What the stubs of Book E's CPUs share; what all families do is ../obey.S.
#
# They have no real mode. The stub runs in the other address space (MSR[IS]=MSR[DS]=1), which kernels leave
# alone: wired entries of the TLB map physical memory at its own addresses there (window.py). It goes home
# by rfci: what an exception has put into SRR0 and SRR1 stays.
#
# A CPU's own part defines the macro `all_fetched`, then includes this, then has `state` and `tlb`.

        .set    SRR0, 26
        .set    SRR1, 27
        .set    PID, 48
        .set    CSRR0, 58
        .set    CSRR1, 59
        .set    IVPR, 63
        .set    TBL, 268                # to be read; mftb is no instruction of Book E
        .set    TBU, 269
        .set    PVR, 287
        .set    IVOR6, 406

        .set    BLOCK_KEPT, 0x50        # behind the call block (layout.py), 5 words of 12

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

# keep: write down the registers that TLB instructions work with; an interrupted miss needs them.
# give: give them back. Both change r0.
        .macro  keep registers:vararg
        .set    at, BLOCK_KEPT
        .irp    spr, \registers
        mfspr   0, \spr
        stw     0, at(3)
        .set    at, at + 4
        .endr
        .endm
        .macro  give registers:vararg
        .set    at, BLOCK_KEPT
        .irp    spr, \registers
        lwz     0, at(3)
        mtspr   \spr, 0
        .set    at, at + 4
        .endr
        .endm
