"""What instructions read and write, checked by hand against the Programming Environments Manual."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.match import find_form, rows
from kgdbpatch.isa.registers import ALL, REGISTERS, mask, names
from kgdbpatch.isa.table import TABLE

# word, mnemonic, defs, uses
CASES = [
    (0x38600005, "addi", "r3", ""),  # li r3,5: rA = 0 is no register
    (0x38640005, "addi", "r3", "r4"),
    (0x3C60C000, "addis", "r3", ""),
    (0x7C632A14, "add", "r3", "r3 r5"),
    (0x7C632A15, "add.", "r3 cr0", "r3 r5 so"),
    (0x7C632E14, "addo", "r3 ov so", "r3 r5 so"),
    (0x7C632E15, "addo.", "r3 cr0 ov so", "r3 r5 so"),
    (0x7C632814, "addc", "r3 ca", "r3 r5"),
    (0x7C632914, "adde", "r3 ca", "r3 r5 ca"),
    (0x7C630194, "addze", "r3 ca", "r3 ca"),
    (0x30630001, "addic", "r3 ca", "r3"),
    (0x34630001, "addic.", "r3 ca cr0", "r3 so"),
    (0x20630001, "subfic", "r3 ca", "r3"),
    (0x7C632910, "subfe", "r3 ca", "r3 r5 ca"),
    (0x7CA52910, "subfe", "r5 ca", "ca"),  # subfe r5,r5,r5 makes a mask of CA
    (0x7CA52A78, "xor", "r5", ""),
    (0x7CA52B78, "or", "r5", "r5"),
    (0x7C832E30, "sraw", "r3 ca", "r4 r5"),
    (0x7C832E70, "srawi", "r3 ca", "r4"),
    (0x7C832C30, "srw", "r3", "r4 r5"),
    (0x5083103A, "rlwimi", "r3", "r4 r3"),  # inserts: the rest of rA stays
    (0x5483103A, "rlwinm", "r3", "r4"),
    (0x5483103B, "rlwinm.", "r3 cr0", "r4 so"),
    (0x7C832214, "add", "r4", "r3 r4"),
    (0x2C030000, "cmpwi", "cr0", "r3 so"),
    (0x2F830000, "cmpwi", "cr7", "r3 so"),
    (0x7F832000, "cmpw", "cr7", "r3 r4 so"),
    (0x70630001, "andi.", "r3 cr0", "r3 so"),
    (0x80630004, "lwz", "r3", "r3"),
    (0x80600004, "lwz", "r3", ""),
    (0x84640004, "lwzu", "r3 r4", "r4"),
    (0x7C60202E, "lwzx", "r3", "r4"),  # rA = 0
    (0x7C64006E, "lwzux", "r3 r4", "r4 r0"),  # rB = 0 is a register
    (0x90030004, "stw", "", "r0 r3"),
    (0x90600004, "stw", "", "r3"),
    (0x9421FFF0, "stwu", "r1", "r1"),
    (0x94210000 | 3 << 21, "stwu", "r1", "r1 r3"),
    (0xBBA10014, "lmw", "r29 r30 r31", "r1"),
    (0xBFA10014, "stmw", "", "r29 r30 r31 r1"),
    (0x7FE424AA, "lswi", "r31", "r4"),
    (0x7FE42CAA, "lswi", "r31 r0", "r4"),  # five bytes: two registers, r0 after r31
    (0x7FE405AA, "stswi", "", "r31 r0 r1 r2 r3 r4 r5 r6"),  # NB = 0 means 32 bytes
    (0x7C001828, "lwarx", "r0 reservation", "r3"),
    (0x7C00192D, "stwcx.", "cr0 reservation", "r0 r3 so reservation"),
    (0x7C600026, "mfcr", "r3", "cr0 cr1 cr2 cr3 cr4 cr5 cr6 cr7"),
    (0x7C6FF120, "mtcrf", "cr0 cr1 cr2 cr3 cr4 cr5 cr6 cr7", "r3"),
    (0x7C638120, "mtcrf", "cr2 cr3 cr4", "r3"),
    (0x7D000400 | 3 << 23, "mcrxr", "cr3 ca ov so", "ca ov so"),
    (0x4C9C0000, "mcrf", "cr1", "cr7"),
    (0x4C423182, "crxor", "cr0", "cr0 cr1"),
    (0x4CC63182, "crxor", "cr1", "cr1"),
    (0x4C631B82, "cror", "cr0", "cr0"),
    (0x48000100, "b", "", ""),
    (0x48000101, "bl", "lr", ""),
    (0x41820008, "bc", "", "cr0"),
    (0x419E0008, "bc", "", "cr7"),
    (0x4200FFF8, "bc", "ctr", "ctr"),
    (0x4002FFF8, "bc", "ctr", "ctr cr0"),
    (0x42800008, "bc", "", ""),  # branch always
    (0x429F0005, "bcl", "lr", ""),
    (0x4E800020, "bclr", "", "lr"),
    (0x4E800021, "bclrl", "lr", "lr"),
    (0x4D820020, "bclr", "", "cr0 lr"),
    (0x4E800420, "bcctr", "", "ctr"),
    (0x4E800421, "bcctrl", "lr", "ctr"),
    (0x4D820420, "bcctr", "", "cr0 ctr"),
    (0x7C0802A6, "mflr", "r0", "lr"),
    (0x7C0803A6, "mtlr", "lr", "r0"),
    (0x7C6902A6, "mfctr", "r3", "ctr"),
    (0x7C6903A6, "mtctr", "ctr", "r3"),
    (0x7C6102A6, "mfxer", "r3", "ca ov so string"),
    (0x7C6103A6, "mtxer", "ca ov so string", "r3"),
    (0x7C7A03A6, "mtsrr0", "srr0", "r3"),
    (0x7C7342A6, "mfspr", "r3", "spr"),  # SPRG3
    (0x7C6000A6, "mfmsr", "r3", "msr"),
    (0x7C600124, "mtmsr", "msr", "r3"),
    (0x7C6C42E6, "mftb", "r3", "tb"),
    (0xFC22182A, "fadd", "f1 fpscr", "f2 f3 f1 fpscr"),
    (0xFC22182B, "fadd.", "f1 fpscr cr1", "f2 f3 f1 fpscr cr1"),
    (0xFC2200F2, "fmul", "f1 fpscr", "f2 f3 f1 fpscr"),
    (0xFC2220FA, "fmadd", "f1 fpscr", "f2 f3 f4 f1 fpscr"),
    (0xFC201090, "fmr", "f1", "f2"),
    (0xFC201091, "fmr.", "f1 cr1", "f2 fpscr"),
    (0xFF811000, "fcmpu", "cr7 fpscr", "f1 f2 fpscr"),
    (0xFC20048E, "mffs", "f1", "fpscr"),
    (0xFDFE0D8E, "mtfsf", "fpscr", "f1 fpscr"),
    (0xC8230008, "lfd", "f1", "r3"),
    (0xD8230008, "stfd", "", "f1 r3"),
    (0xCC230008, "lfdu", "f1 r3", "r3"),
    (0x7C001FEC, "dcbz", "", "r3"),
    (0x7C0004AC, "sync", "", ""),
    (0x0FE00000, "twi", "", ""),  # unconditional: r0 is not looked at
    (0x0F030000, "twi", "", "r3"),
]


@pytest.mark.parametrize(
    ("word", "mnemonic", "defs", "uses"), CASES, ids=lambda v: hex(v) if isinstance(v, int) else None
)
def test_effect(word: int, mnemonic: str, defs: str, uses: str) -> None:
    instruction = decode(word)
    assert instruction.mnemonic == mnemonic
    assert set(names(instruction.defs)) == set(defs.split())
    assert set(names(instruction.uses)) == set(uses.split())


@pytest.mark.parametrize(
    "word",
    [0x00000000, 0x7C6002E6, 0x1060084A, 0x84600004, 0x84630004, 0x94600004],
    ids=["zero", "mftb-of-nothing", "altivec", "lwzu-of-0", "lwzu-onto-base", "stwu-of-0"],
)
def test_what_is_no_valid_7xx_instruction_reads_all_and_writes_nothing(word: int) -> None:
    assert (decode(word).defs, decode(word).uses) == (0, ALL)


def test_string_instructions_take_every_register() -> None:
    lswx = decode(0x7C64042A | 5 << 11)
    assert lswx.mnemonic == "lswx"
    assert lswx.uses & lswx.defs == lswx.defs == mask(*(f"r{n}" for n in range(32)))


@st.composite
def _words(draw: st.DrawFn) -> int:
    row = draw(st.sampled_from(TABLE[1:]))
    return row.match | (draw(st.integers(0, 0xFFFFFFFF)) & ~row.mask & 0xFFFFFFFF)


@given(st.lists(_words() | st.integers(0, 0xFFFFFFFF), min_size=1, max_size=50))
def test_arrays_agree_with_single_words(words: list[int]) -> None:
    decoded = decode_array(np.array(words, dtype=np.uint32))
    for n, word in enumerate(words):
        one = decode(word)
        assert (one.form, one.kind, one.conditional) == (
            decoded.form[n],
            decoded.kind[n],
            decoded.conditional[n],
        )


@given(st.integers(0, 0xFFFFFFFF))
def test_a_form_matches_its_row_and_no_earlier_one(word: int) -> None:
    form = find_form(word)
    matching = [n for n, row in enumerate(rows()) if n and word & row.mask == row.match]
    assert form == (matching[0] if matching else 0)


@given(_words())
def test_written_state_is_known_state(word: int) -> None:
    instruction = decode(word)
    assert 0 <= instruction.defs < 1 << len(REGISTERS)
    assert instruction.uses & ~ALL == 0


def test_branch_targets() -> None:
    assert decode(0x4BFFFFFC, 0x1000).target == 0xFFC
    assert decode(0x4BFFFFFE, 0x1000).target == 0xFFFFFFFC  # ba
    assert decode(0x4182FFFC, 0x1000).target == 0xFFC
    assert not decode(0x48001002, 0x1000).pc_relative
    assert decode(0x429F0005, 0x1000).pc_relative
    assert not decode(0x4E800020, 0x1000).pc_relative
    assert decode(0x4E800420).target is None


def test_kinds() -> None:
    kinds = {
        0x42800008: Kind.JUMP,
        0x4D820020: Kind.RETURN,
        0x4E800421: Kind.CALL,
        0x4C000064: Kind.RFI,
        0x44000002: Kind.SYSCALL,
        0x7FE00008: Kind.TRAP,
        0x4E800420: Kind.INDIRECT,
        0x1060084A: Kind.FOREIGN,
    }
    assert {word: decode(word).kind for word in kinds} == kinds
    assert decode(0x4D820020).conditional
    assert not decode(0x4E800020).conditional
