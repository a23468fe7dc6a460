"""Guess where functions begin in code without symbols.

The evidence, each with its own doubts:

* the target of a direct call (``bl``; not the ``bl``/``bcl`` to the next word that fetches the pc);
* a prologue, ``stwu r1,-n(r1)``: the function begins behind the nearest word before it at which
  control cannot go on (``blr``, ``b``, ``bctr``, ``rfi``, an unconditional trap, or a
  call that never comes back, no instruction), as far as no branch leads between;
* an address that a word of data or a pair of instructions (``lis``, ``addi``) holds, if control
  does not come there from the word before, no branch leads there, and the code there reads no
  register that is its caller's, as cases of a switch do;
* the target of a ``b`` that leaves its own function, with the same conditions: a tail call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.effects import words_of
from kgdbpatch.analysis.no_return import final_calls
from kgdbpatch.analysis.program import Program
from kgdbpatch.analysis.regset import from_mask
from kgdbpatch.analysis.saves import may_save
from kgdbpatch.isa.decode import Decoded, Kind, decode_array
from kgdbpatch.isa.registers import mask

__all__ = ["guess_functions"]

Words = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_NOP = 0x60000000
_APART = 6  # words between the halves of an address
_REACH = 24  # words before a prologue's stwu in which its function may begin
_LOOK_AHEAD = 24  # words of what may be a function's beginning
_CALLERS = np.uint64(from_mask(mask(*(f"r{n}" for n in range(14, 32)), "cr2", "cr3", "cr4")))
_ENDS = [int(kind) for kind in (Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI, Kind.UNKNOWN, Kind.FOREIGN)]


def guess_functions(
    code: Sequence[tuple[int, Words]], data: Sequence[tuple[int, Words]] = (), model: str = ""
) -> list[tuple[int, int]]:
    """Return (address, bytes) of the functions that ``code`` (address, words) seems to consist of.

    ``data`` (address, words) may point to them; ``model`` is the CPU's, as for `decode`.
    """
    program = Program(code, (), model)
    final = program.address[final_calls(program)]
    sections = [_Section(address, words, final, model) for address, words in code if len(words)]
    calls = np.concatenate([s.targets(Kind.CALL) for s in sections]) if sections else np.zeros(0, np.int64)
    pointers = np.concatenate([words.astype(np.int64) for _, words in data] or [np.zeros(0, np.int64)])
    found: list[tuple[int, int]] = []
    held = np.concatenate([pointers, *(section.built() for section in sections)])
    firsts = [section.starts(calls, held) for section in sections]
    tails = np.concatenate(
        [s.tail_calls(first) for s, first in zip(sections, firsts, strict=True)] or [pointers]
    )
    for section, first in zip(sections, firsts, strict=True):
        found += section.extents(section.with_tails(first, tails))
    return sorted(found)


class _Section:
    def __init__(self, address: int, words: Words, final: Indices, model: str) -> None:
        self.address, self.words = address, words
        self.decoded: Decoded = decode_array(words, model)
        kind = self.decoded.kind
        trap = (kind == Kind.TRAP) & ((words >> np.uint32(21)) & np.uint32(31) == 31)
        ends = np.isin(kind, _ENDS) & ~self.decoded.conditional
        own = final[(final >= address) & (final < address + 4 * len(words))]
        ends[(own - address) // 4] = True
        self.filler = (words == _NOP) | ~self.decoded.known
        # control does not come here from the word before, padding left aside
        after_end = np.concatenate([[True], ends | trap])[: len(words)]
        self.fresh = after_end
        index, displacement, absolute = self.decoded.branches()
        here = np.where(absolute, 0, address + 4 * index)
        self._leaves = np.array([kind.transfers or kind in (Kind.CALL, Kind.SYSCALL) for kind in Kind])
        self._index, self._targets = index, here + displacement

    def targets(self, kind: Kind) -> Indices:
        """Return the addresses that direct branches of a kind lead to, those to the next word aside."""
        wanted = self.decoded.kind[self._index] == kind
        away = self._targets != self.address + 4 * self._index + 4
        chosen: Indices = self._targets[wanted & away]
        return chosen

    def _within(self, addresses: Indices) -> Indices:
        inside = (addresses >= self.address) & (addresses < self.address + 4 * len(self.words))
        chosen: Indices = np.unique((addresses[inside & (addresses & 3 == 0)] - self.address) // 4)
        return chosen[self.decoded.known[chosen]]

    def starts(self, calls: Indices, pointers: Indices) -> Indices:
        """Return the indices at which functions seem to begin, in order."""
        called = self._within(calls)
        jumped = np.zeros(len(self.words) + 1, np.bool_)
        wanted = self.decoded.kind[self._index] != Kind.CALL
        jumped[self._within(self._targets[wanted])] = True
        prologues = self._prologues(jumped)
        pointed = self._within(pointers)
        pointed = pointed[~self._is_address(pointed)]
        pointed = pointed[self.begins[pointed] & ~jumped[pointed]]
        pointed = pointed[self._stands_alone(pointed)]
        (first,) = np.nonzero(self.decoded.known[:1])
        return np.unique(np.concatenate([first, called, prologues, pointed]))

    def _is_address(self, places: Indices) -> Bools:
        """Tell which words are addresses of this code, as entries of jump tables are."""
        words = self.words[places]
        end = self.address + 4 * len(self.words)
        inside: Bools = (words >= self.address) & (words < end) & (words & np.uint32(3) == 0)
        return inside

    def built(self) -> Indices:
        """Return the addresses that ``lis`` and an ``addi`` or ``ori`` soon after put together."""
        words = self.words
        found = []
        primary, target, source = (
            words >> np.uint32(26),
            words >> np.uint32(21) & 31,
            words >> np.uint32(16) & 31,
        )
        low = (words & np.uint32(0xFFFF)).astype(np.int64)
        upper = (primary == 15) & (source == 0)
        for distance in range(1, _APART + 1):
            second, first = slice(distance, None), slice(None, -distance)
            pair = upper[first] & (primary[second] == 14) & (source[second] == target[first])
            value = (low[first] << 16) + (low[second] ^ 0x8000) - 0x8000
            found.append(value[pair] & 0xFFFFFFFF)
        return np.concatenate(found)

    def tail_calls(self, starts: Indices) -> Indices:
        """Return the targets of jumps that leave their function."""
        jump = self.decoded.kind[self._index] == Kind.JUMP
        source, target = self._index[jump], (self._targets[jump] - self.address) // 4
        home = np.searchsorted(starts, source, "right")
        away = np.searchsorted(starts, target, "right") != home
        leaving: Indices = self._targets[jump][away]
        return leaving

    def with_tails(self, starts: Indices, tails: Indices) -> Indices:
        """Return the starts, those among targets of tail calls that can be ones included."""
        more = self._within(tails)
        more = more[self.begins[more]]
        return np.unique(np.concatenate([starts, more[self._stands_alone(more)]]))

    def _stands_alone(self, places: Indices) -> Bools:
        """Tell which places read no register that a calling convention leaves to the caller, but to save it.

        What is reached from within a function, through a table for one, goes on with its registers.
        """
        good = np.ones(len(places), np.bool_)
        written = np.zeros(len(places), np.uint64)
        active = np.arange(len(places))
        for step in range(_LOOK_AHEAD):
            active = active[places[active] + step < len(self.words)]
            at = places[active] + step
            here = Decoded(self.words[at], self.decoded.form[at])
            effects = words_of(here)
            read = np.where(may_save(here.words), np.uint64(0), effects.proven)
            good[active] &= (read & ~written[active] & _CALLERS) == 0
            written[active] |= effects.defs
            active = active[good[active] & ~self._leaves[here.kind]]
        return good

    @cached_property
    def begins(self) -> Bools:
        """Tell at which words control does not come from before, filler between left aside."""
        last = np.maximum.accumulate(np.where(~self.filler, np.arange(len(self.words)), -1))
        before = np.concatenate([[-1], last[:-1]])
        return self.fresh | np.where(
            before >= 0, self.fresh[np.minimum(before + 1, len(self.words) - 1)], True
        )

    def _prologues(self, jumped: Bools) -> Indices:
        (stores,) = np.nonzero((self.words & np.uint32(0xFFFF8000)) == 0x94218000)
        begins = self.begins & ~self.filler
        marks = np.where(begins, np.arange(len(self.words)), -1)
        start = np.maximum.accumulate(marks)[stores] if len(stores) else stores
        leads = np.concatenate([[0], np.cumsum(jumped[: len(self.words)])])
        alone = leads[stores + 1] - leads[np.maximum(start, 0)] == 0
        good: Indices = start[(start >= 0) & (stores - start < _REACH) & alone]
        return good

    def extents(self, starts: Indices) -> list[tuple[int, int]]:
        """Return (address, bytes) of the functions, without the filler behind them."""
        if not len(starts):
            return []
        ends = np.concatenate([starts[1:], [len(self.words)]]).astype(np.int64)
        last = np.maximum.accumulate(np.where(~self.filler, np.arange(len(self.words)), -1))
        ends = np.where(ends > 0, last[ends - 1] + 1, ends)
        return [
            (self.address + 4 * int(start), 4 * int(end - start))
            for start, end in zip(starts, ends, strict=True)
            if end > start
        ]
