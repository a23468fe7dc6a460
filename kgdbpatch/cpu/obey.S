# What the kernel component of every CPU family obeys: position-independent code that the debugger calls
# inside the guest. A family's `stub.S` includes it, between its own definitions and its commands.
#
# It runs with interrupts off, where physical addresses are what loads and stores take, so nothing else
# runs meanwhile. On entry r3 holds the physical address of the call block
# (layout.py); every other register of the interrupted code is saved there by the debugger
# before the call. The commands are obeyed in order; the first that fails ends the run.
#
# At `done` the debugger has a breakpoint and puts the registers back itself. When no debugger
# is left (it was killed), execution goes on past `done`: the stub restores the interrupted
# context from the call block and returns to it, so the guest never notices. XER is not
# among it: nothing here changes it, and QEMU 7.2 shows debuggers an XER without its flags.
#
# The order dcbf, sync, icbi, sync, isync is that of the paper (3.3.3) and of PEM 5.1.5.2.
#
# A family defines LINE_SHIFT; DEC, where the decrementer is another register; HOME_PC and HOME_MSR, the registers that its return takes, and the macro
# `return`; the macro `own_commands`, which branches to those that it alone has; the macro `all_fetched`, for
# caches in which `icbi` does not find all; and `state`, which writes what the debugger cannot read to
# physical a. Its commands end by `b advance` or `b failed`.

        .set    BLOCK_STATUS, 0x00
        .set    BLOCK_COMMANDS, 0x04
        .set    BLOCK_COUNT, 0x08
        .set    BLOCK_PC, 0x0c
        .set    BLOCK_MSR, 0x10
        .set    BLOCK_CR, 0x14
        .set    BLOCK_CTR, 0x18
        .set    BLOCK_LR, 0x1c
        .set    BLOCK_R0, 0x24
        .set    BLOCK_R3, 0x28

        .set    JOURNAL_COUNT, -4       # from the call block
        .set    JOURNAL, 4              # the journal's distance from the call block, 64 KiB
        .set    JOURNAL_DATA, 1
        .set    JOURNAL_CODE, 2

        .set    LINE, 1 << LINE_SHIFT   # bytes of a cache line

        .set    COMMAND_SIZE, 32
        .set    COMMAND_RESULT, 16
        .set    COMMAND_DONE, 20

        .set    RECORD_SIZE, 64
        .set    RECORD_STATE, 0
        .set    RECORD_SITE, 12         # physical
        .set    RECORD_ORIGINAL, 16
        .set    RECORD_SPLICE, 20

        .set    PENDING, 1
        .set    ACTIVE, 2
        .set    RETIRED, 3

        .set    OP_FLUSH, 1
        .set    OP_SPLICE, 2
        .set    OP_STORE, 3
        .set    OP_STATE, 4
        .set    OP_BAT, 5
        .set    OP_MAP, 6
        .set    OP_DECREMENTER, 7
        .set    OP_APPLY, 8
        .set    OP_WITHDRAW, 9
        .set    OP_MARK, 10
        .set    OP_TLB, 11
        .ifndef DEC
        .set    DEC, 22
        .endif

        .globl  _start
_start:
        lwz     4, BLOCK_COMMANDS(3)
        lwz     5, BLOCK_COUNT(3)
        li      6, 0
        sync
        isync
next:
        cmplw   6, 5
        beq     succeeded
        lwz     7, 0(4)
        lwz     8, 4(4)                 # operand a: an address mostly
        lwz     9, 8(4)                 # operand b
        lwz     10, 12(4)               # operand c
        cmpwi   7, OP_FLUSH
        beq     flush
        cmpwi   7, OP_SPLICE
        beq     splice
        cmpwi   7, OP_STORE
        beq     store
        cmpwi   7, OP_STATE
        beq     state
        own_commands
        cmpwi   7, OP_DECREMENTER
        beq     decrementer
        cmpwi   7, OP_APPLY
        beq     apply
        cmpwi   7, OP_WITHDRAW
        beq     withdraw
        cmpwi   7, OP_MARK
        beq     mark
failed:
        addi    7, 6, 1
        b       finish
advance:
        addi    4, 4, COMMAND_SIZE
        addi    6, 6, 1
        b       next
succeeded:
        li      7, 0
finish:
        stw     7, BLOCK_STATUS(3)
        sync
        .globl  done
done:
        nop                             # the debugger's breakpoint; without one, go home
        lwz     0, BLOCK_CR(3)
        mtcrf   0xff, 0
        lwz     0, BLOCK_CTR(3)
        mtctr   0
        lwz     0, BLOCK_LR(3)
        mtlr    0
        lwz     0, BLOCK_PC(3)
        mtspr   HOME_PC, 0
        lwz     0, BLOCK_MSR(3)
        mtspr   HOME_MSR, 0
        lwz     0, BLOCK_R0(3)
        lwz     4, BLOCK_R3+4(3)
        lwz     5, BLOCK_R3+8(3)
        lwz     6, BLOCK_R3+12(3)
        lwz     7, BLOCK_R3+16(3)
        lwz     8, BLOCK_R3+20(3)
        lwz     9, BLOCK_R3+24(3)
        lwz     10, BLOCK_R3+28(3)
        lwz     11, BLOCK_R3+32(3)
        lwz     12, BLOCK_R3+36(3)
        lwz     3, BLOCK_R3(3)
        return

# flush: make b bytes of new code at physical a visible to instruction fetch.
flush:
        mr      11, 8
        add     12, 8, 9
        bl      coherent
        b       advance

# coherent: make the new code from physical r11 to r12 visible to instruction fetch, and note what
# was done in the journal (layout.py): first the data lines, then the instruction lines. Changes r0, r7, r11.
        .macro  lines operation kind
        mr      7, 11
1:      cmplw   7, 12
        bge     2f
        \operation 0, 7
        addi    7, 7, LINE
        b       1b
2:      sync
        lwz     7, JOURNAL_COUNT(3)
        addi    0, 7, 1
        stw     0, JOURNAL_COUNT(3)
        rlwinm  7, 7, 3, 17, 28         # 4096 entries of 8 bytes
        add     7, 7, 3
        addis   7, 7, JOURNAL
        ori     0, 11, \kind
        stw     0, 0(7)
        stw     12, 4(7)
        .endm
coherent:
        clrrwi  11, 11, LINE_SHIFT
        lines   dcbf, JOURNAL_DATA
        lines   icbi, JOURNAL_CODE
        all_fetched
        isync
        blr

# splice: replace the instruction at physical a by c, if it is b. Result: the word found.
splice:
        lwz     11, 0(8)
        stw     11, COMMAND_RESULT(4)
        cmplw   11, 9
        bne     failed
        stw     10, 0(8)
        mr      11, 8
        addi    12, 8, 4
        bl      coherent
        b       advance

# apply: splice the b patches whose records stand from physical a on; everything they need is
# written and flushed. Stops at the first site that holds another word than the record's original.
# Result: that word; done: how many are spliced.
apply:
        li      10, 0
1:      stw     10, COMMAND_DONE(4)
        cmplw   10, 9
        beq     advance
        lwz     11, RECORD_SITE(8)
        lwz     12, 0(11)
        stw     12, COMMAND_RESULT(4)
        lwz     0, RECORD_ORIGINAL(8)
        cmplw   12, 0
        bne     failed
        li      0, PENDING
        stw     0, RECORD_STATE(8)
        sync
        lwz     0, RECORD_SPLICE(8)
        stw     0, 0(11)
        addi    12, 11, 4
        bl      coherent
        li      0, ACTIVE
        stw     0, RECORD_STATE(8)
        sync
        addi    8, 8, RECORD_SIZE
        addi    10, 10, 1
        b       1b

# withdraw: put the original words back at the sites of the b patches whose records stand from
# physical a on, and retire them. Stops at the first site that holds neither of its two words.
# Result: that word; done: how many are retired.
withdraw:
        li      10, 0
1:      stw     10, COMMAND_DONE(4)
        cmplw   10, 9
        beq     advance
        lwz     11, RECORD_SITE(8)
        lwz     12, 0(11)
        stw     12, COMMAND_RESULT(4)
        lwz     0, RECORD_ORIGINAL(8)
        cmplw   12, 0
        beq     2f
        lwz     7, RECORD_SPLICE(8)
        cmplw   12, 7
        bne     failed
        stw     0, 0(11)
        addi    12, 11, 4
        bl      coherent
2:      li      0, RETIRED
        stw     0, RECORD_STATE(8)
        sync
        addi    8, 8, RECORD_SIZE
        addi    10, 10, 1
        b       1b

# mark: give the b records from physical a on the state c.
mark:
        cmpwi   9, 0
        beq     2f
1:      stw     10, RECORD_STATE(8)
        addi    8, 8, RECORD_SIZE
        subi    9, 9, 1
        cmpwi   9, 0
        bne     1b
2:      sync
        b       advance

# store: write the data word b at physical a.
store:
        stw     9, 0(8)
        sync
        b       advance

# decrementer: let it count down from a.
decrementer:
        mtspr   DEC, 8
        b       advance

# note: write registers, TBU and TBL to physical r8, `at` bytes and 8; changes r0, r11, r12.
        .macro  note registers:vararg
        .set    at, 0
        .irp    spr, \registers
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
        .endm
