"""Reach state that only instructions reach: a word before sets it from a register, one after shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.registers import GPRS, REGISTERS
from kgdbpatch.isa.table import Kind

from .layout import COLUMN
from .words import Probes

__all__ = ["Sandwich", "make_sandwich"]

_NOP = 0x60000000
# Special registers that are not to be written: the time base and the processor's version. Others
# that the 750 lacks QEMU leaves alone in supervisor state, as the manual says it should.
_FIXED = {0, 268, 269, 284, 285, 287}


@dataclass
class Sandwich:
    """Two words before and two after each word; -1 where there is nothing.

    ``source[n, c]`` is the GPR that state ``c`` is set from, ``sink[n, c]`` the one that it is
    read back to; ``scratch[n, r]`` tells which GPRs the words around change besides.
    ``index[n]`` is the GPR whose top bits must be ``segment[n]`` (mtsrin, mfsrin).
    """

    before: npt.NDArray[np.uint32]
    after: npt.NDArray[np.uint32]
    source: npt.NDArray[np.int64]
    sink: npt.NDArray[np.int64]
    scratch: npt.NDArray[np.bool_]
    index: npt.NDArray[np.int64]
    segment: npt.NDArray[np.int64]


def _x_form(opcode: int, d: int, a: int = 0, b: int = 0) -> int:
    return 31 << 26 | d << 21 | a << 16 | b << 11 | opcode << 1


def _spr(opcode: int, register: int, number: int) -> int:
    return _x_form(opcode, register, number & 31, number >> 5)


def make_sandwich(probes: Probes) -> Sandwich:
    """Make what stands around each word."""
    count = len(probes.words)
    made = Sandwich(
        before=np.full((count, 2), _NOP, np.uint32),
        after=np.full((count, 2), _NOP, np.uint32),
        source=np.full((count, len(REGISTERS)), -1),
        sink=np.full((count, len(REGISTERS)), -1),
        scratch=np.zeros((count, 32), np.bool_),
        index=np.full(count, -1),
        segment=np.full(count, -1),
    )
    for n, (word, row) in enumerate(zip(probes.words.tolist(), probes.rows, strict=True)):
        if row.kind in (Kind.SYSTEM, Kind.RFI) or row.mnemonic == "stwcx.":
            _surround(made, n, word, row.mnemonic, row.kind, probes.model)
    return made


def _surround(made: Sandwich, n: int, word: int, mnemonic: str, kind: Kind, model: str) -> None:
    instruction = decode(word, 0, model)
    taken = (instruction.uses | instruction.defs) & GPRS
    p, q = [register for register in range(31, 0, -1) if not taken >> register & 1][:2]
    b, number = word >> 11 & 31, (word >> 16 & 31) | (word >> 11 & 31) << 5
    into = out = None
    name = ""
    if kind is Kind.RFI:
        made.before[n] = _spr(467, p, 26), _spr(467, q, 27)
        made.source[n, COLUMN["srr0"]], made.source[n, COLUMN["srr1"]] = p, q
    elif mnemonic in ("mfsrr0", "mfsrr1", "mtsrr0", "mtsrr1"):
        name, into = mnemonic[2:], _spr(467, p, number)
    elif mnemonic in ("mfspr", "mtspr") and number not in _FIXED:
        name, into, out = "spr", _spr(467, p, number), _spr(339, q, number)
    elif mnemonic in ("mtsr", "mfsr"):
        segment = word >> 16 & 15
        name, into, out = "sr", _x_form(210, p, segment), _x_form(595, q, segment)
    elif mnemonic in ("mtsrin", "mfsrin"):
        segment = made.segment[n] = n & 15
        made.index[n] = b
        name, into, out = "sr", _x_form(210, p, segment), _x_form(595, q, segment)
    elif mnemonic == "stwcx.":
        name, into = "reservation", _x_form(20, q, 0, p)
        made.scratch[n, q] = True
    if into is not None:
        made.before[n, 1], made.source[n, COLUMN[name]] = into, p
    if out is not None and mnemonic.startswith("mt"):
        made.after[n, 0], made.sink[n, COLUMN[name]] = out, q
        made.scratch[n, q] = True
