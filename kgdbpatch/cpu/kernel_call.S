# A call of one of the kernel's own functions, by a thread that the debugger lends (kernel_call.py).
#
# The debugger stops a thread where the kernel may be called, notes its registers in the block that
# stands BLOCK bytes before this code, and sets the pc to `enter`, in real mode with interrupts off.
# From there on the call is completed without it: the function runs as if the thread had called it
# (translated, interrupts on, it may sleep), returns to the gate (a few words of the kernel's own
# text, `gate` in kernel_call.py), which leads to `returned` here. That notes the result and
# goes back to where the thread was, every register as it was there.
#
# Where the kernel has given the component no memory yet, block and code lie in the thread's own stack
# (borrow.py). What must outlast the thread's stay, how far the call is and its result, goes to ANSWER, too,
# beside the gate at GATE_AT (both physical); there is nobody then who has made the gate visible.

        .set    BLOCK, 0x100            # layout.py: KERNEL_CALL_CODE_OFFSET less KERNEL_CALL_OFFSET

        .set    STATUS, 0x00
        .set    FUNCTION, 0x04
        .set    GATE, 0x08
        .set    STACK, 0x0c
        .set    RESULT, 0x10
        .set    ANSWER, 0x1c            # 0: the block alone
        .set    PC, 0x20
        .set    MSR, 0x24
        .set    CR, 0x28
        .set    LR, 0x2c
        .set    CTR, 0x30
        .set    XER, 0x34
        .set    R0, 0x38
        .set    R1, 0x3c
        .set    R3, 0x40
        .set    ARGUMENTS, 0x68
        .set    GATE_AT, 0x88

        .set    LINE, 16                # bytes: the shortest cache line
        .set    GATE_LINES, 5           # that a gate (64 bytes) can have part in

        .set    CALLED, 2
        .set    RETURNED, 3

        .set    SRR0, 26
        .set    SRR1, 27

        .macro  lines operation
        lwz     11, GATE_AT(12)
        li      0, GATE_LINES
        mtctr   0
1:      \operation 0, 11
        addi    11, 11, LINE
        bdnz    1b
        sync
        .endm

        .macro  block
        bcl     20, 31, 1f
1:      mflr    12
        addi    12, 12, enter-BLOCK-1b
        .endm

enter:
        block
        mfxer   0
        stw     0, XER(12)
        li      0, CALLED
        stw     0, STATUS(12)
        lwz     11, ANSWER(12)
        cmplwi  11, 0
        beq     2f
        stw     0, 0(11)
        lines   dcbf
        lines   icbi
        isync
2:      sync
        lwz     1, STACK(12)
        lwz     0, GATE(12)
        mtlr    0
        lwz     0, FUNCTION(12)
        mtspr   SRR0, 0
        lwz     0, MSR(12)
        mtspr   SRR1, 0
        .irp    n, 3, 4, 5, 6, 7, 8, 9, 10
        lwz     \n, ARGUMENTS+4*(\n-3)(12)
        .endr
        rfi

returned:
        block
        stw     3, RESULT(12)
        stw     4, RESULT+4(12)
        li      0, RETURNED
        stw     0, STATUS(12)
        lwz     11, ANSWER(12)
        cmplwi  11, 0
        beq     2f
        stw     3, 4(11)
        stw     4, 8(11)
        sync
        stw     0, 0(11)
2:      sync
        lwz     0, CR(12)
        mtcrf   0xff, 0
        lwz     0, LR(12)
        mtlr    0
        lwz     0, CTR(12)
        mtctr   0
        lwz     0, XER(12)
        mtxer   0
        lwz     0, PC(12)
        mtspr   SRR0, 0
        lwz     0, MSR(12)
        mtspr   SRR1, 0
        lwz     0, R0(12)
        lwz     1, R1(12)
        .irp    n, 3, 4, 5, 6, 7, 8, 9, 10, 11
        lwz     \n, R3+4*(\n-3)(12)
        .endr
        lwz     12, R3+36(12)
        rfi
