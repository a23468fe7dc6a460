"""Where a function's caller is found at one of its instructions: how deep its frame is, where LR is kept.

The code from the function's entry to that instruction is followed, registers that hold a known distance from
the r1 of the entry with it. So no debug information is needed, and prologues may be mixed with other code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import mask

__all__ = ["Unwinding", "unwinding"]

_MOST = 1 << 14  # instructions that are looked at
_LR = 1 << 24  # value of a register: the return address; others are bytes from the r1 of the entry
_ELSEWHERE = (
    1 << 25
)  # the same, where another stack begins, whose back chain leads to so many bytes from there
_ADDI, _LWZ, _STW, _STWU, _X = 14, 32, 36, 37, 31
_OR, _STWUX, _MFLR, _MTLR = 444, 183, 0x7C08_02A6, 0x7C08_03A6
_OF_LR = mask("lr")
_VOLATILE = (0, *range(3, 13))


class Unwinding(NamedTuple):
    """How to get to the caller.

    ``size`` is how far r1 is below that of the entry, bytes; None where only the back chain tells: it leads
    to ``behind`` bytes below it where the function has changed stacks. The return address stands ``saved``
    bytes from the entry's r1, else in LR (``in_lr``), or in the register ``held``.
    """

    size: int | None
    saved: int | None
    in_lr: bool
    held: int | None = None
    behind: int = 0


class _State(NamedTuple):
    registers: dict[int, int]
    saved: int | None
    in_lr: bool

    def unwinding(self) -> Unwinding:
        sp = self.registers.get(1)
        held = next((number for number, value in self.registers.items() if value == _LR), None)
        if sp is not None and sp > _LR:
            return Unwinding(None, self.saved, self.in_lr, held, _ELSEWHERE - sp)
        return Unwinding(None if sp is None else -sp, self.saved, self.in_lr, held)


def unwinding(instruction: Callable[[int], Instruction | None], entry: int, at: int) -> Unwinding | None:
    """Return how the caller is found before the instruction at ``at`` is executed; None: not known.

    ``instruction(address)`` gives those of the function that begins at ``entry``, None for all others. What
    only a jump by way of CTR leads to is taken for code within the function's usual frame.
    """
    states: dict[int, _State] = {}
    pending = [(entry, _State({1: 0}, None, True))]
    indirect = False
    while pending and len(states) < _MOST:
        address, state = pending.pop()
        here = instruction(address) if address not in states else None
        if here is None:
            continue
        states[address] = state
        if address == at:
            return state.unwinding()
        after = _step(here, state)
        indirect |= here.kind is Kind.INDIRECT
        if here.kind in (Kind.JUMP, Kind.BRANCH) and here.target is not None:
            pending.append((here.target, after))
        ends = here.kind in (Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI) and not here.conditional
        if not ends:
            pending.append((address + 4, after))
    if not indirect:
        return None
    usual = Counter(one.unwinding()._replace(held=None) for one in states.values() if one.registers.get(1))
    return usual.most_common(1)[0][0] if usual else None


def _step(here: Instruction, state: _State) -> _State:
    """Return what is known behind an instruction."""
    registers, saved, in_lr = dict(state.registers), state.saved, state.in_lr
    word = here.word
    first, base, low = word >> 21 & 31, word >> 16 & 31, (word & 0xFFFF ^ 0x8000) - 0x8000
    code, extended = word >> 26, word >> 1 & 0x3FF
    at = registers.get(base)
    at = None if at is None or at >= _LR else at + low
    if code == _STW and at is not None and registers.get(first) == _LR:
        return _State(registers, at, in_lr)
    value = None
    sp = registers.get(1)
    if code == _STWU:
        other = first == 1 != base and sp is not None and sp < _LR
        first, value = base, _ELSEWHERE + (sp or 0) if other else at
    elif code == _X and extended == _STWUX:
        first = base
    elif code == _ADDI and base:
        value = at
    elif code == _X and extended == _OR and first == word >> 11 & 31:
        first, value = base, registers.get(first)
    elif code == _LWZ:
        value = _loaded(registers, base, low, at, saved)
    elif word & ~(31 << 21) == _MFLR:
        value = _LR if in_lr else None
    elif word & ~(31 << 21) == _MTLR:
        return _State(registers, saved, registers.get(first) == _LR)
    elif here.links:
        for number in _VOLATILE:
            registers.pop(number, None)
        return _State(registers, saved, False)
    else:
        first = -1
    changed = here.defs & 0xFFFF_FFFF
    for number in [number for number in registers if changed >> number & 1]:
        del registers[number]
    if first >= 0 and value is not None:
        registers[first] = value
    return _State(registers, saved, in_lr and not here.defs & _OF_LR)


def _loaded(registers: dict[int, int], base: int, low: int, at: int | None, saved: int | None) -> int | None:
    """Return what a load gives: what r1 was at the entry, by the back chain, or the return address."""
    sp = registers.get(1)
    if base == 1 and low == 0 and sp != 0:
        return 0 if sp is None or sp < _LR else sp - _ELSEWHERE
    return _LR if at is not None and at == saved else None
