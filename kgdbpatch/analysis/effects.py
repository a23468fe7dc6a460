"""Sum up what the blocks of a program read and change by themselves, calls left aside."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.arrays import marked, ranges, runs
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices, Program
from kgdbpatch.analysis.regset import EVERYTHING, RegSet
from kgdbpatch.analysis.saves import PRESERVED, Saves, field
from kgdbpatch.isa.decode import Decoded, Kind
from kgdbpatch.isa.registers import CRS, mask

__all__ = ["BlockTransfer", "WordEffects", "blockwise", "may_fault", "without_saves", "words_of"]

_CRS = np.uint64(regset.from_mask(CRS))
_ALL = np.uint64(EVERYTHING)
_ARGUMENTS = np.uint64(regset.from_mask(mask(*(f"r{n}" for n in range(3, 11)))))
_ALWAYS_TRAPS = 31
_PIECE = 24  # words
_NOP = 0x60000000


class WordEffects(NamedTuple):
    """Per word: what it changes, what it reads, what its reading asks of a caller, what it proves.

    ``wanted`` leaves out what is stored only to be put back (see `without_saves`). ``proven``
    leaves out what is assumed for safety as well.
    """

    defs: RegSet
    uses: RegSet
    wanted: RegSet
    proven: RegSet


class BlockTransfer(NamedTuple):
    """The same per block: ``kill`` and what is read before it is changed."""

    kill: RegSet
    uses: RegSet
    wanted: RegSet
    proven: RegSet
    faults: RegSet  # what an entry of a block is still as it was at its first instruction that may fault


def words_of(decoded: Decoded) -> WordEffects:
    """Return what words read and change.

    An unconditional trap reads what a call reads; a conditional one its operands only: whoever
    handles it either goes on with all registers as they were, or not at all.
    """
    kind = decoded.kind
    defs, uses = regset.effects(decoded)
    uses[np.flatnonzero((kind == Kind.SYSCALL) | (kind == Kind.RFI))] = _ALL
    nops = np.flatnonzero(decoded.words == _NOP)
    defs[nops] = uses[nops] = 0  # it writes r0, but leaves it as it was
    traps = np.flatnonzero(kind == Kind.TRAP)
    traps = traps[field(decoded.words[traps], 21) == _ALWAYS_TRAPS]
    proven = uses.copy()
    uses[traps] |= _ARGUMENTS
    proven[np.flatnonzero(uses == _ALL)] = 0
    proven[np.flatnonzero((proven & _CRS) == _CRS)] &= ~_CRS
    return WordEffects(defs, uses, uses, proven)


def without_saves(words: WordEffects, program: Program, saves: Saves) -> WordEffects:
    """Leave out of ``wanted`` and ``proven`` what words read only to save it; the given ``proven`` changes.

    mfcr reads all of CR for the sake of a bit or of the fields to be put back: it wants what a
    compiler may keep in no field across a call only of functions that no compiler made.
    """
    wanted, proven = words.wanted.copy(), words.proven
    every_field = np.flatnonzero(((wanted & _CRS) == _CRS) & program.inside)
    every_field = every_field[wanted[every_field] != _ALL]
    owner = program.function[every_field]
    spared = np.where(saves.compiled[owner], _CRS & ~PRESERVED, np.uint64(0)) | saves.restores[owner] & _CRS
    wanted[every_field] &= ~spared
    stored = np.flatnonzero(saves.words)
    for array in (wanted, proven):
        base = np.uint64(1) << field(program.words[stored], 16).astype(np.uint64)
        array[stored] = array[stored] & ~PRESERVED | base
    return WordEffects(words.defs, words.uses, wanted, proven)


def blockwise(blocks: Blocks, words: WordEffects) -> BlockTransfer:
    """Sum words up over blocks: over pieces of blocks first, as some blocks are very long."""
    length = blocks.last - blocks.first + 1
    count = (length + _PIECE - 1) // _PIECE
    end = np.cumsum(count) - 1  # the last piece of each block
    first = ranges(np.zeros_like(count), count)
    first *= _PIECE
    first += np.repeat(blocks.first, count)
    pieces = _Pieces(first, np.minimum(first + _PIECE - 1, np.repeat(blocks.last, count)))
    faulting = None if blocks.fixups_known else may_fault(blocks.program.decoded)
    kill, uses, faults = pieces.sum_up(words.defs, words.uses, faulting)
    # nearly all words want and prove just what they use
    wanted, proven = (
        pieces.sum_up_differing(words.defs, part, words.uses, uses) for part in (words.wanted, words.proven)
    )
    sums = uses, wanted, proven, faults
    joined = [part.take(end) for part in (kill, *sums)]
    long = np.flatnonzero(count > 1)
    for step in range(1, int(count.max(initial=1))):
        long = long[count[long] > step]
        piece = end[long] - step
        joined[0][long] |= kill[piece]
        for total, part in zip(joined[1:], sums, strict=True):
            total[long] = total[long] & ~kill[piece] | part[piece]
    return BlockTransfer(*joined)


class _Pieces:
    """Runs of up to `_PIECE` words, given by their first and last words."""

    def __init__(self, first: Indices, last: Indices) -> None:
        self._first, self._last = first, last

    def sum_up(self, defs: RegSet, uses: RegSet, faulting: Flags | None) -> tuple[RegSet, RegSet, RegSet]:
        """Return what the pieces change, what they read before, and `BlockTransfer`'s ``faults``."""
        shorter = (_PIECE - 1 - (self._last - self._first)).astype(np.uint8)
        order = np.argsort(shorter, kind="stable")
        counts = np.cumsum(np.bincount(shorter, minlength=_PIECE))[::-1]  # of pieces longer than 0, 1, ...
        last = self._last[order]
        kill, read, faults = (np.zeros(len(order), dtype=np.uint64) for _ in range(3))
        for step, count in enumerate(counts.tolist()):
            at = last[:count] - step
            changed = defs.take(at)
            kill[:count] |= changed
            np.invert(changed, out=changed)
            part = read[:count]
            part &= changed
            part |= uses.take(at)
            if faulting is not None:
                part = faults[:count]
                part &= changed
                part[faulting[at]] = _ALL
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return kill.take(place), read.take(place), faults.take(place)

    def sum_up_differing(self, defs: RegSet, some: RegSet, uses: RegSet, read: RegSet) -> RegSet:
        """Return what pieces read of ``some``, given what they ``read`` of all ``uses``."""
        differing = np.flatnonzero(some != uses)
        behind = np.searchsorted(self._first, differing, "right")
        inside = differing <= np.append(-1, self._last)[behind]
        pieces = behind[inside] - 1
        pieces = pieces[runs(pieces)]
        result = read.copy()
        result[pieces] = _Pieces(self._first[pieces], self._last[pieces]).sum_up(defs, some, None)[1]
        return result


def may_fault(decoded: Decoded) -> Flags:
    """Tell from which words control may go to a fix-up, or where a kernel may patch a branch in."""
    flags = marked(len(Kind), [Kind.LOAD, Kind.STORE, Kind.TRAP, Kind.SYSTEM])
    result: Flags = flags.take(decoded.kind) | (decoded.words == _NOP)
    return result
