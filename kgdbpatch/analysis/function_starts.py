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

Where most functions that are called begin with two ``nop``, room for a tracer
(``-fpatchable-function-entry=2``), two before a prologue are its function's own, not padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kgdbpatch.analysis.arrays import distinct, marked
from kgdbpatch.analysis.effects import words_of
from kgdbpatch.analysis.no_return import final_calls
from kgdbpatch.analysis.program import Flags, Indices, Program
from kgdbpatch.analysis.regset import from_mask
from kgdbpatch.analysis.saves import may_save
from kgdbpatch.isa.decode import Decoded, Kind
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import mask

__all__ = ["guess_functions"]

_NOP = 0x60000000
_APART = 6  # words between the halves of an address
_ROOM = 2  # words
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
    if not len(program.words):
        return []
    search = _Search(program)
    held = np.concatenate([search.built(), *(words.astype(np.int64) for _, words in data)])
    return search.extents(search.starts(held))


class _Search:
    def __init__(self, program: Program) -> None:
        self._program, self._words, self._decoded = program, program.words, program.decoded
        kind, words, every = self._decoded.kind, program.words, np.arange(len(program.words))
        trap = (kind == Kind.TRAP) & ((words >> np.uint32(21)) & np.uint32(31) == 31)
        ends = np.isin(kind, _ENDS) & ~self._decoded.conditional | trap | final_calls(program)
        filler = (words == _NOP) | ~self._decoded.known
        self._leaves = np.array([kind.transfers or kind in (Kind.CALL, Kind.SYSCALL) for kind in Kind])
        self._section = np.searchsorted(program.firsts, every, "right") - 1
        first = program.firsts[self._section]
        # control does not come here from the word before, padding left aside
        fresh = np.append(True, ends)[:-1]
        fresh[first] = True
        self._last = np.maximum.accumulate(np.where(filler, -1, every))  # that is no filler, up to each word
        # at which words control does not come from before, filler between left aside
        self._begins: Flags = fresh | fresh[np.maximum(np.append(-1, self._last[:-1]) + 1, first)]
        self._solid_begins = np.where(self._begins & ~filler, every, -1)

    def _within(self, words: Indices) -> Indices:
        """Return those words of the program that are instructions; -1 is none."""
        chosen = distinct(words[words >= 0])
        return chosen[self._decoded.known[chosen]]

    def starts(self, pointers: Indices) -> Indices:
        """Return the words at which functions seem to begin, in order."""
        program, kind = self._program, self._decoded.kind
        source, address, target = program.branches
        calls = kind[source] == Kind.CALL
        called = self._within(target[calls & (address != program.address[source] + 4)])
        jumps = ~calls & (self._section[source] == self._section[target])
        jumped = marked(len(self._words), self._within(target[jumps]))
        pointed = self._within(program.index_of(pointers))
        pointed = self._standing_alone(pointed[~jumped[pointed] & ~self._is_address(pointed)])
        prologues = self._prologues(jumped)
        if self._patchable(called):
            prologues = self._with_room(prologues, called)
        starts = np.concatenate([self._within(program.firsts[:-1]), called, prologues, pointed])
        starts = distinct(starts)
        away = np.searchsorted(starts, source, "right") != np.searchsorted(starts, target, "right")
        tails = self._standing_alone(self._within(target[away & (kind[source] == Kind.JUMP)]))
        return distinct(np.append(starts, tails))

    def _is_address(self, places: Indices) -> Flags:
        """Tell which words are addresses of their section's code, as entries of jump tables are."""
        held = self._program.index_of(self._words[places].astype(np.int64))
        inside: Flags = (held >= 0) & (self._section[held] == self._section[places])
        return inside

    def built(self) -> Indices:
        """Return the addresses that ``lis`` and an ``addi`` or ``ori`` soon after put together."""
        words, section = self._words, self._section
        primary = words >> np.uint32(26)
        target, base = (words >> np.uint32(shift) & np.uint32(31) for shift in (21, 16))
        low = (words & np.uint32(0xFFFF)).astype(np.int64)
        upper = (primary == 15) & (base == 0)
        found = []
        for distance in range(1, _APART + 1):
            second, first = slice(distance, None), slice(None, -distance)
            pair = upper[first] & (primary[second] == 14) & (base[second] == target[first])
            pair &= section[first] == section[second]
            value = (low[first] << 16) + (low[second] ^ 0x8000) - 0x8000
            found.append(value[pair] & 0xFFFFFFFF)
        return np.concatenate(found)

    def _standing_alone(self, places: Indices) -> Indices:
        """Return those of some places that begin something and read no register that is the caller's to keep.

        But to save it. What is reached from within a function, through a table for one, goes on with its
        registers.
        """
        places = places[self._begins[places]]
        good = np.ones(len(places), np.bool_)
        written = np.zeros(len(places), np.uint64)
        active = np.arange(len(places))
        for step in range(_LOOK_AHEAD):
            at = places[active] + step
            here = Decoded(self._words[at], self._decoded.form[at])
            effects = words_of(here)
            read = np.where(may_save(here.words), np.uint64(0), effects.proven)
            good[active] &= (read & ~written[active] & _CALLERS) == 0
            written[active] |= effects.defs
            on = good[active] & ~self._leaves[here.kind] & self._program.contiguous[at]
            active = active[on]
        return places[good]

    def _prologues(self, jumped: Flags) -> Indices:
        (stores,) = np.nonzero((self._words & np.uint32(0xFFFF8000)) == 0x94218000)
        start = np.maximum.accumulate(self._solid_begins)[stores]
        leads = np.append(0, np.cumsum(jumped))
        good: Indices = start[(stores - start < _REACH) & (leads[stores + 1] == leads[start])]
        return good

    def _patchable(self, called: Indices) -> bool:
        """Tell whether most functions, by those that are called, begin with room for a tracer."""
        return bool(2 * np.count_nonzero(self._is_room(called)) > len(called))

    def _is_room(self, places: Indices) -> Flags:
        """Tell which words are a ``nop`` before another one in the same section."""
        nops = np.append(self._words == _NOP, False)
        found: Flags = nops[places] & nops[places + 1] & self._program.contiguous[places]
        return found

    def _with_room(self, prologues: Indices, called: Indices) -> Indices:
        """Return where functions begin that have such room before what looks like their beginning."""
        before = np.maximum(prologues - _ROOM, 0)
        own = (before >= self._program.firsts[self._section[prologues]]) & self._is_room(before)
        own &= (prologues >= _ROOM) & ~np.isin(prologues, called)
        return np.where(own, before, prologues)

    def extents(self, starts: Indices) -> list[tuple[int, int]]:
        """Return (address, bytes) of the functions, without the filler behind them."""
        ends = np.append(starts[1:], len(self._words))
        ends = np.minimum(ends, self._program.firsts[self._section[starts] + 1])
        ends = self._last[ends - 1] + 1
        real = ends > starts
        addresses = self._program.address[starts[real]]
        return list(zip(addresses.tolist(), (4 * (ends - starts)[real]).tolist(), strict=True))
