# The kernel component of the 6xx, 7xx and 74xx: what is theirs of it; the rest is ../obey.S.
#
# It runs in real mode (MSR[IR]=MSR[DR]=0), so it depends on no page table, and goes home by rfi.
# Cache lines of the 7xx are 32 bytes (MPC750 UM 3.1).

        .set    LINE_SHIFT, 5           # `line` in family.py, too

        .set    SDR1, 25
        .set    SRR0, 26
        .set    SRR1, 27
        .set    PVR, 287
        .set    IBAT0U, 528             # IBAT0U, IBAT0L, ... IBAT3L, DBAT0U, ... DBAT3L
        .set    HID0, 1008

        .set    HOME_PC, SRR0
        .set    HOME_MSR, SRR1
        .macro  return
        rfi
        .endm

        .macro  all_fetched
        .endm

        .macro  own_commands
        cmpwi   7, OP_BAT
        beq     bat
        cmpwi   7, OP_MAP
        beq     map
        .endm

        .include "obey.S"

# state: write what the debugger cannot read to physical a: SDR1 PVR HID0 SRR0 SRR1 DEC TBU TBL,
# IBAT0U..IBAT3L, DBAT0U..DBAT3L, SR0..SR15.
state:
        .set    at, 0
        .irp    spr, SDR1, PVR, HID0, SRR0, SRR1, DEC
        mfspr   11, \spr
        stw     11, at(8)
        .set    at, at + 4
        .endr
1:      mftbu   11
        mftb    12
        mftbu   0
        cmplw   0, 11
        bne     1b
        stw     11, at(8)
        stw     12, at+4(8)
        .set    at, at + 8
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        mfspr   11, IBAT0U+\n
        stw     11, at(8)
        .set    at, at + 4
        .endr
        addi    8, 8, at
        li      11, 0
2:      mfsrin  12, 11
        stw     12, 0(8)
        addi    8, 8, 4
        addis   11, 11, 0x1000
        cmpwi   11, 0
        bne     2b
        b       advance

# bat: give BAT pair number a (0 to 3: instruction, 4 to 7: data) the upper word b and lower word c,
# unless it is already valid with another upper word. Result: the word found. With 8 added to the number
# the pair is given back: whatever it has is replaced.
bat:
        cmpwi   1, 8, 7
        rlwinm  8, 8, 0, 29, 31
        .macro  pair number
        cmpwi   8, \number
        bne     1f
        mfspr   11, IBAT0U+2*\number
        bl      admit
        li      11, 0
        mtspr   IBAT0U+2*\number, 11
        isync
        mtspr   IBAT0U+2*\number+1, 10
        mtspr   IBAT0U+2*\number, 9
        isync
        b       advance
1:
        .endm
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        pair    \n
        .endr
        b       failed
admit:                                  # fall back to `failed` when r11 is another's
        stw     11, COMMAND_RESULT(4)
        bgtlr   1
        andi.   0, 11, 3
        beqlr
        cmplw   11, 9
        bne     failed
        blr

# map: enter a translation of virtual page a to the lower PTE word b in the hashed page table
# (PEM 7.6): an entry for the page is replaced, else a free slot is taken, primary group first.
# Result: the slot's physical address.
map:
        mfsrin  11, 8
        rlwinm  12, 8, 20, 16, 31       # page index
        xor     12, 12, 11
        rlwinm  12, 12, 0, 13, 31       # primary hash, 19 bits
        rlwinm  11, 11, 7, 1, 24        # VSID in place
        oris    11, 11, 0x8000          # V
        rlwimi  11, 8, 10, 26, 31       # API
        li      10, 0                   # first free slot found
group:
        mfspr   7, SDR1
        rlwinm  0, 7, 10, 13, 21        # HTABMASK in place
        ori     0, 0, 0x03ff
        and     0, 0, 12
        rlwinm  7, 7, 0, 0, 15
        rlwinm  0, 0, 6, 7, 25
        or      7, 7, 0                 # PTE group
        li      0, 8
        mtctr   0
1:      lwz     0, 0(7)
        cmplw   0, 11
        beq     replace
        cmpwi   0, 0
        blt     2f                      # V set: another page's
        cmpwi   10, 0
        bne     2f
        mr      10, 7
        mr      5, 11                   # and the upper word it would get
2:      addi    7, 7, 8
        bdnz    1b
        andi.   0, 11, 0x40
        bne     3f
        ori     11, 11, 0x40            # H: the secondary group
        not     12, 12
        rlwinm  12, 12, 0, 13, 31
        b       group
3:      cmpwi   10, 0
        beq     failed
        mr      7, 10
        mr      11, 5
replace:
        li      0, 0
        stw     0, 0(7)
        sync
        tlbie   8
        sync
        stw     9, 4(7)
        eieio
        stw     11, 0(7)
        sync
        tlbie   8
        sync
        tlbsync
        sync
        isync
        stw     7, COMMAND_RESULT(4)
        lwz     5, BLOCK_COUNT(3)
        b       advance
        .globl  end
end:
