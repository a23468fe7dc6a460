"""The registers that an instruction reads or writes are those that objdump names among its operands."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import ALL, CRS, FPRS, GPRS, mask, names
from kgdbpatch.isa.table import TABLE

from .objdump import OBJDUMP, texts

_REGISTER = re.compile(r"\b(?:r|f|cr)\d+\b")
_BIT = re.compile(r"(?<![\w+])(lt|gt|eq|so)\b")  # of cr0: the others are written 4*crN+eq
_SEVERAL = {"range", "count", "fxm"}  # operands that stand for more registers than are written
_OTHERWISE = ("tlbie", "mcrfs")  # a register of later models, and a field of FPSCR written as one of CR
_PER_ROW = 10


def _named(text: str) -> int:
    operands = text.partition(" ")[2]
    found = mask(*_REGISTER.findall(operands))
    return found | (mask("cr0") if _BIT.search(operands) else 0)


@pytest.mark.skipif(shutil.which(OBJDUMP) is None, reason=f"{OBJDUMP} is not installed")
def test_defs_and_uses_are_the_operands() -> None:
    random = np.random.default_rng(9)
    rows = [row for row in TABLE[1:] for _ in range(_PER_ROW)]
    bits = random.integers(0, 1 << 32, len(rows), dtype=np.uint32)
    words = np.array([row.match for row in rows], dtype=np.uint32)
    words |= bits & ~np.array([row.mask for row in rows], dtype=np.uint32)
    judged = 0
    for row, word, text in zip(rows, words.tolist(), texts(words, "-M", "raw"), strict=True):
        found = decode(word)
        if text.startswith(".long") or found.uses == ALL or found.form != TABLE.index(row):
            continue
        reached = (found.defs | found.uses) & (GPRS | FPRS | CRS)
        implied = (row.defs | row.uses) & (GPRS | FPRS | CRS)
        shown = _named(text)
        if row.mnemonic in _OTHERWISE:
            shown &= reached
        if row.cancels or (row.kind is Kind.TRAP and word >> 21 & 31 == 31):
            shown &= reached | ~(GPRS | FPRS)  # what does not matter is written all the same
        if found.kind in (Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.CALL, Kind.BRANCH):
            shown &= ~CRS | reached  # BI of a branch that looks at no condition
        assert names(shown & ~reached) == [], text
        if not _SEVERAL & {*row.def_fields, *row.use_fields}:
            # a comparison into cr0 leaves it out
            silent = mask("cr0") if text.startswith("cmp") or "bA" in row.use_fields else 0
            assert names(reached & ~implied & ~silent & ~shown) == [], text
        judged += 1
    assert judged > 0.8 * len(rows)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_any_word_anywhere_is_decoded(word: int, address: int) -> None:
    found = decode(word, address & ~3)
    assert found.known or found.uses == ALL
    assert not found.foreign or found.defs == 0
    assert repr(found).count("\n") == 0
    assert found.target is None or 0 <= found.target <= 0xFFFFFFFF
    assert found.memory is None or found.kind in (Kind.LOAD, Kind.STORE)
