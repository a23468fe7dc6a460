"""Lead the accesses of a word into the window, and its branch to a trap word."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.registers import mask
from kgdbpatch.isa.table import Kind, Row

from .layout import COLUMN, SLOT, WINDOW, WINDOW_BYTES, Cases
from .machine import SLOTS
from .sandwich import Sandwich
from .states import MSR, MSR_FREE
from .words import Probes

__all__ = ["Places"]

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_PLACES = np.array([32, 40, 48, 56])  # where in the window an access may go
_MOVE = 32  # by how much a changed base moves it


class Places:
    """What the registers of each word must hold."""

    def __init__(self, probes: Probes, sandwich: Sandwich) -> None:
        rows, words = probes.rows, probes.words
        cache = np.array([row.kind is Kind.SYSTEM and {"A0", "B"} <= set(row.use_fields) for row in rows])
        displaced = np.array([row.offset == "d" for row in rows])
        self._slots = len(words)
        self.a, self.b = (words >> np.uint32(16) & 31).astype(int), (words >> np.uint32(11) & 31).astype(int)
        self.access = np.array([row.base is not None for row in rows])
        self._indexed = np.array([row.offset == "B" for row in rows]) | cache
        self._based = (self.access | cache) & (self.a != 0)
        self._displacement = np.where(displaced, words.astype(np.uint16).view(np.int16), 0).astype(np.int64)
        self._width = np.array([row.width for row in rows])
        # dcbz and what AltiVec loads and stores begin at a multiple of their width
        aligns = np.array([row.mnemonic == "dcbz" or bool(self.vectors(row)) for row in rows])
        self._alignment = np.where(aligns, self._width, 1)
        branch = np.array([row.kind in (Kind.CALL, Kind.RETURN, Kind.INDIRECT) for row in rows])
        self._by_lr = branch & np.array([bool(row.uses & mask("lr")) for row in rows])
        self._by_ctr = branch & np.array([row.mnemonic.startswith("bcctr") for row in rows])
        self._counts = np.array([bool(row.uses & row.defs & mask("ctr")) for row in rows])
        self._reserves = sandwich.source[:, COLUMN["reservation"]]
        self._index, self._segment = sandwich.index, sandwich.segment
        mtmsr = np.array([row.mnemonic == "mtmsr" for row in rows])
        rfi = np.array([row.kind is Kind.RFI for row in rows])
        self._target = np.where(rfi, sandwich.source[:, COLUMN["srr0"]], -1)
        state = np.where(rfi, sandwich.source[:, COLUMN["srr1"]], -1)
        self._msr = np.where(mtmsr, words >> np.uint32(21) & 31, state)

    @staticmethod
    def vectors(row: Row) -> bool:
        """Tell whether a row moves a vector register."""
        return bool({"vD", "vS"} & {*row.def_fields, *row.use_fields})

    def traps(self, random: np.random.Generator, count: int) -> npt.NDArray[np.uint32]:
        """Return addresses of trap words, the low two bits (which branches ignore) random."""
        slot = random.integers(0, self._slots, count)
        return (SLOTS + 4 * SLOT * slot + 24 + random.integers(0, 8, count)).astype(np.uint32)

    def bases(self, probe: Indices, column: Indices) -> Bools:
        """Tell whether each column is a base or index register of its word."""
        index, base = self._indexed[probe], self._based[probe]
        found: Bools = (base & (column == self.a[probe])) | (index & (column == self.b[probe]))
        return found

    def start(self, cases: Cases, probe: Indices) -> Indices:
        """Return where each access begins."""
        r, n = cases["r"].astype(np.int64), np.arange(len(cases))
        start = np.where(self._based[probe], r[n, self.a[probe]], 0) + self._displacement[probe]
        start = (start + np.where(self._indexed[probe], r[n, self.b[probe]], 0)) & 0xFFFFFFFF
        aligned: Indices = start & -self._alignment[probe]
        return aligned

    def accessed(self, cases: Cases, probe: Indices) -> Bools:
        """Return which bytes of the window each word reaches, by the table's base, offset and width."""
        start = self.start(cases, probe)[:, None] - WINDOW
        byte = np.arange(WINDOW_BYTES)
        inside: Bools = (byte >= start) & (byte < start + self._width[probe][:, None])
        inside &= self.access[probe][:, None]
        return inside

    def lead(
        self, cases: Cases, probe: Indices, random: np.random.Generator, *, elsewhere: bool = False
    ) -> None:
        """Set the registers of states that were made for the given words.

        With ``elsewhere``, an index of a segment register is of another one than the words around see.
        """
        count = len(cases)
        r, n = cases["r"], np.arange(count)
        a, b = self.a[probe], self.b[probe]
        based, indexed = self._based[probe], self._indexed[probe]
        address = WINDOW + random.choice(_PLACES, count)
        same = based & indexed & (a == b)
        half = address // 2 + (random.integers(0, 2, count) << 31)
        self._put(r, same, a, half)
        self._put(r, indexed & ~based, b, address)
        self._put(r, based & indexed & ~same, a, address - r[n, b])
        self._put(r, based & ~indexed, a, address - self._displacement[probe])
        self._put(r, self._reserves[probe] >= 0, self._reserves[probe], self.start(cases, probe))
        target = self.traps(random, count)
        cases["lr"] = np.where(self._by_lr[probe], target, cases["lr"])
        cases["ctr"] = np.where(self._by_ctr[probe], target, cases["ctr"])
        near = self._counts[probe] & (random.random(count) < 0.5)
        cases["ctr"] = np.where(near, random.integers(0, 3, count), cases["ctr"])
        self._put(r, self._target[probe] >= 0, self._target[probe], target)
        index, segment = self._index[probe], self._segment[probe]
        top = (segment ^ random.integers(1, 16, count) if elsewhere else segment) << 28
        self._put(r, index >= 0, index, r[n, index] & 0x0FFFFFFF | top)
        at = self._msr[probe]
        self._put(r, at >= 0, at, (r[n, at].astype(np.int64) & MSR_FREE) | MSR)

    @staticmethod
    def _put(
        r: npt.NDArray[np.uint32],
        where: Bools,
        register: Indices,
        value: npt.NDArray[np.int64] | npt.NDArray[np.uint32],
    ) -> None:
        (n,) = np.nonzero(where)
        r[n, register[n]] = (value[n] & 0xFFFFFFFF).astype(np.uint32)

    def move(self, cases: Cases, rows: Bools, register: Indices, random: np.random.Generator) -> None:
        """Move a base by a little, so that the access stays within the window."""
        (n,) = np.nonzero(rows)
        step = random.choice(np.array([-_MOVE, _MOVE]), len(n))
        r = cases["r"]
        r[n, register[n]] = (r[n, register[n]] + step & 0xFFFFFFFF).astype(np.uint32)
