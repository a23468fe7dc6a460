"""Tell where, in the middle of a function, its caller's registers are: what a return from there puts back.

Stores through other pointers than the function's own r1 are taken not to write where it keeps registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kgdbpatch.analysis.caller_frame import Code
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import mask

__all__ = ["Unwinding", "unwinding"]

LR, _CR = 32, 33  # numbers here, beside those of the general registers
_KEPT = range(14, 32)
_VOLATILE = (0, *range(3, 13))
_CRS = mask("cr2", "cr3", "cr4")
_MOST = 1 << 15  # instructions that are looked at
_ADDI, _ADDIS, _LWZ, _STW, _STWU, _LMW, _STMW, _X, _OR = 14, 15, 32, 36, 37, 46, 47, 31, 444
_STWUX = 183
_MFLR, _MTLR = 0x7C08_02A6, 0x7C08_03A6

Value = tuple[str, int]  # ("sp", bytes from the entry's r1) or ("caller", register)
State = Mapping[tuple[str, int], Value]  # ("register", number) or ("slot", bytes from the entry's r1)


class Unwinding(NamedTuple):
    """Where the caller's registers are at a place of a function.

    ``frame``: how many bytes r1 is below that of the entry. ``lr`` is where its return address is, ``kept``
    where r14..r31 are that the function has changed, by number: bytes from the place's r1; None for the
    register itself. ``complete``: all that a return puts back is known.
    """

    frame: int
    lr: int | None
    kept: dict[int, int]
    complete: bool


def unwinding(entry: int, place: int, code: Code) -> Unwinding | None:
    """Return how the function at ``entry`` is left from ``place``; None where its return address is lost."""
    states = _states(entry, code)
    if states is None:
        return None
    for start, found in states.items():
        block = code.block(start)
        if block is None or not start <= place <= block[0]:
            continue
        state = dict(found)
        for here in code.instructions(start, (place - start) // 4):
            _step(here, state)
        return _unwinding(state)
    return None


def _unwinding(state: State) -> Unwinding | None:
    kind, sp = state.get(("register", 1), ("", 0))
    if kind != "sp" or sp > 0:
        return None
    lr = _find(state, LR, sp)
    if lr is None:
        return None
    places = {number: _find(state, number, sp) for number in _KEPT}
    complete = state.get(("register", _CR)) == ("caller", _CR) and None not in places.values()
    kept = {number: at for number, at in places.items() if at is not None and at >= 0}
    return Unwinding(-sp, None if lr < 0 else lr, kept, complete)


def _find(state: State, number: int, sp: int) -> int | None:
    """Return how many bytes above r1 a register of the caller's is, -1 for in itself, None for nowhere."""
    value = ("caller", number)
    if state.get(("register", number)) == value:
        return -1
    places = [at for (kind, at), held in state.items() if kind == "slot" and held == value and at >= sp]
    return min(places) - sp if places else None


def _states(entry: int, code: Code) -> dict[int, State] | None:
    """Return what is known at the beginning of each block; None where code goes on to who knows where."""
    caller = {("register", number): ("caller", number) for number in (*_KEPT, LR, _CR)}
    states: dict[int, State] = {entry: {**caller, ("register", 1): ("sp", 0)}}
    pending, looked = [entry], 0
    while pending:
        start = pending.pop()
        block = code.block(start)
        if block is None:
            continue  # another function, which does not come back here
        state, (last, others) = dict(states[start]), block
        instructions = code.instructions(start, (last - start) // 4 + 1)
        looked += len(instructions)
        if looked > _MOST:
            return None
        for here in instructions:
            _step(here, state)
        end = instructions[-1]
        if end.kind is Kind.INDIRECT and not others and state.get(("register", 1)) != ("sp", 0):
            return None
        for other in others:
            known = states.get(other)
            merged = (
                state if known is None else {key: one for key, one in known.items() if state.get(key) == one}
            )
            if known is None or len(merged) != len(known):
                states[other] = dict(merged)
                pending.append(other)
    return states


def _step(here: Instruction, state: dict[tuple[str, int], Value]) -> None:
    word = here.word
    opcode, d, a, b = word >> 26, word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
    low = (word & 0xFFFF ^ 0x8000) - 0x8000
    extended = word >> 1 & 0x3FF if opcode == _X else 0
    register, base = ("register", d), state.get(("register", a), ("", 0))
    if here.defs & _CRS:
        state.pop(("register", _CR), None)
    if here.kind is Kind.CALL:
        for number in (*_VOLATILE, LR):
            state.pop(("register", number), None)
    elif word & ~(31 << 21) == _MFLR:
        _set(state, register, state.get(("register", LR)))
    elif word & ~(31 << 21) == _MTLR:
        _set(state, ("register", LR), state.get(register))
    elif here.memory is not None:
        _access(here, state)
    elif opcode in (_ADDI, _ADDIS) and a and base[0] == "sp":
        _set(state, register, ("sp", base[1] + (low << 16 * (opcode - _ADDI))))
    elif opcode == _X and extended == _OR and d == b:
        _set(state, ("register", a), state.get(register))
    else:
        _forget(here, state)


def _access(here: Instruction, state: dict[tuple[str, int], Value]) -> None:
    word, memory = here.word, here.memory
    assert memory is not None
    opcode, d, a = word >> 26, word >> 21 & 31, word >> 16 & 31
    base = (
        state.get(("register", a), ("", 0)) if memory.base is not None and memory.index is None else ("", 0)
    )
    at = base[1] + memory.displacement if base[0] == "sp" else None
    if here.kind is not Kind.STORE:
        numbers = range(d, 32) if opcode == _LMW else (d,)
        loaded = [None if at is None else state.get(("slot", at + 4 * n)) for n in range(len(numbers))]
        _forget(here, state)
        if opcode in (_LWZ, _LMW):
            for number, value in zip(numbers, loaded, strict=True):
                _set(state, ("register", number), value)
        return
    numbers = range(d, 32) if opcode == _STMW else (d,)
    values = [state.get(("register", number)) for number in numbers]
    if at is not None:
        for key in [key for key in state if key[0] == "slot" and at - 3 <= key[1] < at + 4 * len(numbers)]:
            del state[key]
    _forget(here, state)
    if at is not None and opcode in (_STW, _STWU, _STMW):
        for number, value in enumerate(values):
            _set(state, ("slot", at + 4 * number), value)
    if opcode == _STWU and at is not None:
        state["register", a] = ("sp", at)
    elif word >> 1 & 0x3FF == _STWUX and opcode == _X:
        state.pop(("register", a), None)


def _set(state: dict[tuple[str, int], Value], key: tuple[str, int], value: Value | None) -> None:
    if value is None:
        state.pop(key, None)
    else:
        state[key] = value


def _forget(here: Instruction, state: dict[tuple[str, int], Value]) -> None:
    for number in range(32):
        if here.defs >> number & 1:
            state.pop(("register", number), None)
