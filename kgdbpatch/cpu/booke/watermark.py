"""Up to which entry of the 440's TLB a kernel fills them in turns: those behind it stay as they are.

Linux compares with a number in its handlers of TLB misses, and empties the TLB up to the same number, which a
variable holds. Both are found by what the code does, from IVPR and IVOR13 and 14 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.cpu.booke.window import TLBWE, KernelCode
from kgdbpatch.cpu.msr import EE, PR
from kgdbpatch.errors import MemoryFault, Refused, TargetTimeout
from kgdbpatch.isa import encode
from kgdbpatch.isa.operands import signed
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["Watermark", "find", "leave_turns"]

_IVPR_BITS, _IVOR_BITS, _EXCEPTIONS = 0xFFFF_0000, 0xFFF0, 16
_HANDLER = 0x400  # bytes: more than a handler of TLB misses has
_TEXT, _PART = 16 << 20, 256 << 10  # bytes: where the code that empties the TLB is looked for, and at a time
_CMPLI, _CMPI, _ADDI, _ADDIS, _LWZ, _STW, _BC, _B, _X = 10, 11, 14, 15, 32, 36, 16, 18, 31
_BEFORE, _BEHIND = 8, 6  # instructions around the one that an idiom is known by
_RFI = 0x4C00_0064
_STEPS = 512  # instructions: a handler's, or of one round over the TLB
_FRAMES, _FRAME = 64, 512  # of the stack that are looked at; bytes of each, more than an exception's has


class Watermark(NamedTuple):
    """Entries up to ``last`` are filled in turns.

    ``bounds`` are virtual addresses and words of the instructions that compare with it, ``variable`` is the
    address of the word that holds it, ``turns`` the addresses of code that has read it already.
    """

    bounds: tuple[tuple[int, int], ...]
    variable: int
    last: int
    turns: tuple[range, ...]


def find(session: Session, code: KernelCode) -> Watermark:
    """Return how the stopped CPU's kernel does it; raise `Refused` (rule ``mapping``) where nobody knows."""
    bounds, turns = list[tuple[int, int]](), list[range]()
    base = session.register("ivpr") & _IVPR_BITS
    entered = [base | session.register(f"ivor{number}") & _IVOR_BITS for number in range(_EXCEPTIONS)]
    for start in (entered[13], entered[14]):
        end = min([at for at in entered if at > start], default=start + _HANDLER)
        words = code.words(start, min(end - start, _HANDLER)).tolist()
        index = _bound(words)
        if index is None:
            raise _unknown(f"its handler of TLB misses at 0x{start:08x} does not fill entries in turns")
        bounds.append((start + 4 * index, words[index]))
        turns += _until_written(code, start, words, index)
    last = {word & 0xFFFF for _, word in bounds}
    variable, loop = _emptied(code)
    value = int(code.words(variable, 4)[0])
    if last != {value}:
        raise _unknown(f"its code and its data (0x{variable:08x}) do not agree up to which entry")
    return Watermark(tuple(bounds), variable, value, (*turns, loop))


def _unknown(why: str) -> Refused:
    return Refused("mapping", f"which entries of the TLB the kernel leaves alone is not known: {why}")


def _bound(words: Sequence[int]) -> int | None:
    """Return which word compares the next entry's number with the last one's, or None.

    The number is one more than before, or 0 behind the last, and is stored.
    """
    for index, word in enumerate(words):
        target = word >> 16 & 31
        if word >> 26 not in (_CMPLI, _CMPI) or word & 0xFFFF > 63 or word >> 21 & 1:
            continue
        behind = words[index + 1 : index + 1 + _BEHIND]
        stored = any(one >> 26 == _STW and one >> 21 & 31 == target for one in behind)
        if (
            encode.addi(target, target, 1) in words[max(0, index - _BEHIND) : index]
            and encode.addi(target, 0, 0) in behind
            and stored
        ):
            return index
    return None


def _until_written(code: KernelCode, start: int, words: Sequence[int], bound: int) -> list[range]:
    """Return the addresses from a handler's start to where it has written an entry and goes back."""
    for index in range(bound, len(words)):
        word = words[index]
        if word == _RFI:
            return [range(start, start + 4 * index + 4, 4)]
        if word >> 26 == _B and not word & 3:
            target = (start + 4 * index + signed(word & ~3, 26)) & 0xFFFF_FFFF
            rest = code.words(target, _HANDLER).tolist()
            if _RFI in rest:
                end = target + 4 * rest.index(_RFI) + 4
                return [range(start, start + 4 * index + 4, 4), range(target, end, 4)]
            break
    raise _unknown(f"its handler of TLB misses at 0x{start:08x} does not end")


def _emptied(code: KernelCode) -> tuple[int, range]:
    """Return the address of the variable up to which the TLB is emptied, and the code that does it."""
    for start in range(code.start, code.start + _TEXT, _PART):
        words = code.words(start, _PART)
        for index in np.flatnonzero((words & 0xFC00_FFFF) == TLBWE).tolist():
            found = _loop(words, index)
            if found is not None:
                variable, first, last = found
                return variable, range(start + 4 * first, start + 4 * last + 4, 4)
    raise _unknown("no code is found that empties it up to there")


def _loop(words: npt.NDArray[np.uint32], at: int) -> tuple[int, int, int] | None:
    """Return the variable that ends the loop round a ``tlbwe``, and its first and last words; or None."""
    number = int(words[at]) >> 16 & 31
    behind = words[at + 1 : at + 1 + _BEHIND].tolist()
    if encode.addi(number, number, 1) not in behind:
        return None
    for index, word in enumerate(behind):
        if word >> 26 != _X or word & 0x7FE not in (0, 0x40) or word >> 16 & 31 != number:
            continue  # no cmpw or cmplw of the number
        limit = word >> 11 & 31
        back = [n for n in range(index + 1, len(behind)) if _back(behind[n], at + 1 + n, at)]
        first = max(0, at - _BEFORE)
        loads = [n for n in range(first, at) if _loads(int(words[n]), limit)]
        if not back or not loads:
            return None
        load = int(words[loads[-1]])
        base, low = load >> 16 & 31, signed(load & 0xFFFF, 16)
        high = [int(one) & 0xFFFF for one in words[first : loads[-1]] if _high(int(one), base)]
        if not high:
            return None
        return (high[-1] << 16) + low & 0xFFFF_FFFF, loads[-1], at + 1 + back[0]
    return None


def _back(word: int, at: int, to: int) -> bool:
    return word >> 26 == _BC and not word & 3 and at + signed(word & 0xFFFC, 16) // 4 == to


def _loads(word: int, register: int) -> bool:
    return word >> 26 == _LWZ and word >> 21 & 31 == register


def _high(word: int, register: int) -> bool:
    return word >> 26 == _ADDIS and word >> 21 & 31 == register and not word >> 16 & 31


def leave_turns(session: Session, mark: Watermark) -> None:
    """Let the CPU go on to where no code goes on by the number as it was; else raise `TargetTimeout`."""
    inside = {at for turn in mark.turns for at in turn}
    for _ in range(_STEPS):
        registers = GRegisters(session.read_all())
        interrupted = None if registers["msr"] & EE else session.register("srr0")
        if inside.isdisjoint((registers["pc"], interrupted)):
            break
        session.step()
    else:
        raise _busy()
    if not registers["msr"] & PR and not inside.isdisjoint(_stacked(session, registers["r1"])):
        raise _busy()


def _busy() -> TargetTimeout:
    return TargetTimeout("the kernel is just about to change many entries of the TLB: try again")


def _stacked(session: Session, sp: int) -> list[int]:
    """Return the words of the stack's innermost frames."""
    found, known = list[int](), set[int]()
    while sp and sp not in known and len(known) < _FRAMES:
        known.add(sp)
        try:
            words = np.frombuffer(session.read(sp & ~3, _FRAME), ">u4").tolist()
        except MemoryFault:
            break
        found += words
        sp = words[0]
    return found
