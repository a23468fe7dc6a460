"""Tell what a function does to its caller's frame and where it returns to: may one more frame lie between?

Code is followed from a function's entry, into what it goes on to as well (tail calls, shared prologues and
epilogues); registers that hold a known distance from the r1 of the entry are followed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from kgdbpatch.isa.abi import ABI, SYSV
from kgdbpatch.isa.decode import Instruction, Kind

__all__ = ["ARGUMENTS", "CallerFrame", "Code", "caller_frame"]

# Where arguments begin by System V's convention. A Darwin kernel's compiler may keep to it (isa/abi.py), and
# what stands there by Darwin's own is nothing of the caller's: up to the end of the linkage area.
ARGUMENTS = SYSV.linkage  # bytes
_DEEP = -(1 << 24)  # bytes from the entry's r1: somewhere in a frame of the function's own
_MOST = 1 << 15  # instructions that are looked at
_LR_SLOTS = (4, 8)  # in the caller's frame: System V's and Darwin's
_ARGUMENTS, _VOLATILE = range(3, 11), (0, *range(3, 13))
_LR = 32  # the register's number here
_RETURN, _KEPT = 1 << 24, 1 << 25  # values: where the function returns to; what it kept, that perhaps
_ADDI, _ADDIS, _LWZ, _STW, _STWU, _STMW, _X = 14, 15, 32, 36, 37, 47, 31
_OR, _STWX, _STWUX = 444, 151, 183
_ALWAYS = 31  # of traps
_MFLR, _MTLR = 0x7C08_02A6, 0x7C08_03A6

State = Mapping[int, int]  # register ─► bytes from the entry's r1, or one of the two; others hold anything


class Code(NamedTuple):
    """A program: instructions in a row, where blocks end and what they go on to, who never returns."""

    instructions: Callable[[int, int], Sequence[Instruction]]  # (address, count)
    block: Callable[[int], tuple[int, Sequence[int]] | None]
    never_returns: Callable[[int], bool]


class CallerFrame(NamedTuple):
    """What a function wants of its caller's frame.

    ``returns``: it may come back to its caller. ``reads``: bytes that it may read of the arguments there,
    from `ARGUMENTS` on. ``unknown`` are jumps with the caller's frame on top, to code that may read more.
    ``objection``: the first (address, reason) for which no frame may come between. ``asks``: where it tells
    another function by what address it was called.
    """

    returns: bool
    reads: int
    unknown: tuple[int, ...]
    objection: tuple[int, str] | None
    asks: int | None = None


class _Objection(Exception):
    def __init__(self, address: int, why: str) -> None:
        super().__init__(why)
        self.address, self.why = address, why


def caller_frame(entry: int, code: Code, abi: ABI) -> CallerFrame:
    """Return what the function at ``entry`` wants of its caller's frame."""
    walk = _Walk(code, abi)
    objection = None
    try:
        walk.run(entry)
    except _Objection as found:
        objection = (found.address, found.why)
    returns = not code.never_returns(entry)
    asks = min(walk.asks, default=None)
    return CallerFrame(returns, walk.reads, tuple(sorted(walk.unknown)), objection, asks)


class _Walk:
    def __init__(self, code: Code, abi: ABI) -> None:
        self._code, self._abi = code, abi
        self._states: dict[int, State] = {}
        self._behind_traps: dict[int, State] = {}
        self._chains: dict[int, int] = {}  # a frame's beginning ─► that of the one before
        self.reads = 0
        self.unknown: set[int] = set()
        self.asks: set[int] = set()

    def run(self, entry: int) -> None:
        self._follow(entry, {1: 0, _LR: _RETURN})
        # what a handler of traps may go on with was found to be harmless mostly, and is no code at times
        while self._behind_traps:
            with suppress(_Objection):
                self._follow(*self._behind_traps.popitem())

    def _follow(self, start: int, state: State) -> None:
        """Look at all that code leads to, unless it was looked at."""
        states, looked = self._states, 0
        if start in states:
            return
        states[start] = state
        pending = [start]
        while pending:
            start = pending.pop()
            block = self._code.block(start)
            if block is None:
                raise _Objection(start, "goes on to what is no function")
            state, last = dict(states[start]), block[0]
            instructions = self._code.instructions(start, (last - start) // 4 + 1)
            looked += len(instructions)
            if looked > _MOST:
                raise _Objection(start, "goes on for too long to be followed")
            others = block[1]
            for here in instructions:
                self._step(here, state)
                if here.kind is Kind.TRAP and here.word >> 21 & 31 == _ALWAYS:
                    behind = here.address + 4
                    self._behind_traps.setdefault(behind, dict(state))
                    others = [other for other in others if here.address == last and other != behind]
                    break
            for other in self._successors(here, others, state):
                merged = state if other not in states else _merged(states[other], state)
                if states.get(other) != merged:
                    states[other] = dict(merged)
                    pending.append(other)

    def _successors(self, last: Instruction, known: Sequence[int], state: State) -> list[int]:
        found = [*known]
        if last.kind in (Kind.JUMP, Kind.BRANCH) and last.target is not None and last.target not in found:
            found.append(last.target)
        if last.kind is Kind.RFI:
            raise _Objection(last.address, "returns from an exception")
        if last.kind is Kind.RETURN:
            self._return(last, state)
        if last.kind in (Kind.JUMP, Kind.BRANCH) and last.target not in known and state.get(1) == 0:
            self._escapes(last, state, _ARGUMENTS)
        if last.kind is Kind.INDIRECT and not known:
            if state.get(1) != 0:
                raise _Objection(last.address, "jumps to where is not known")
            self._return(last, state, of=_ARGUMENTS)
            self.unknown.add(last.address)
        if last.kind is Kind.CALL and last.target is not None and self._code.never_returns(last.target):
            return []
        return found

    def _return(self, last: Instruction, state: State, of: Sequence[int] = (3, 4)) -> None:
        if state.get(1) != 0:
            raise _Objection(last.address, "returns on another stack")
        if state.get(_LR) != _RETURN:
            raise _Objection(last.address, "returns to an address of its own making")
        self._escapes(last, state, of)

    def _escapes(self, here: Instruction, state: State, registers: Sequence[int]) -> None:
        """Raise where one of some registers, which others are given, points into the caller's frame."""
        for register in registers:
            value = state.get(register, _DEEP)
            if value == _RETURN and here.kind is Kind.RETURN:
                raise _Objection(here.address, "returns where it was called from")
            if value == _RETURN:
                self.asks.add(here.address)
            if 0 <= value < _RETURN:
                raise _Objection(here.address, "hands on the address of its caller's frame")

    def _step(self, here: Instruction, state: dict[int, int]) -> None:
        word = here.word
        opcode, d, a, b = word >> 26, word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
        low = (word & 0xFFFF ^ 0x8000) - 0x8000
        extended = word >> 1 & 0x3FF if opcode == _X else 0
        base = state.get(a)
        if here.kind is Kind.CALL:
            if here.target != here.address + 4:
                self._escapes(here, state, _ARGUMENTS)
                for register in _VOLATILE:
                    state.pop(register, None)
            state.pop(_LR, None)
        elif word & ~(31 << 21) == _MFLR:
            _set(state, d, state.get(_LR))
        elif word & ~(31 << 21) == _MTLR:
            _set(state, _LR, _RETURN if state.get(d, 0) >= _RETURN else None)
        elif here.memory is not None:
            self._access(here, state)
        elif opcode in (_ADDI, _ADDIS) and a and base is not None and base < _RETURN:
            _set(state, d, _moved(base, low << 16 * (opcode - _ADDI)))
        elif opcode == _X and extended == _OR and d == b and d in state:
            _set(state, a, state[d])
        else:
            if 1 in _named(here.defs) and state.get(1, 0) <= 0 and here.uses & 2:
                state[1] = _DEEP  # grown by an amount known at run time
                defs = here.defs & ~2
            else:
                defs = here.defs
            for register in _named(defs):
                state.pop(register, None)

    def _access(self, here: Instruction, state: dict[int, int]) -> None:
        word = here.word
        opcode, d, a, b = word >> 26, word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
        extended = word >> 1 & 0x3FF if opcode == _X else 0
        memory = here.memory
        assert memory is not None
        store = here.kind is Kind.STORE
        base = state.get(a) if memory.base is not None else None
        if extended == _STWUX and a == 1:  # a frame of a size that is known at run time
            state[1] = _DEEP
            return
        if memory.index is not None:
            used = [state[register] for register in (a, b) if register in state and (a or register == b)]
            used = [value for value in used if value < _RETURN]
            if any(value >= 0 for value in used):
                raise _Objection(here.address, "reaches into its caller's frame by an index")
            self._store(here, state, (d,), into=min(used, default=None)) if store else None
            for register in _named(here.defs):
                state.pop(register, None)
            return
        at = None if base is None or base >= _RETURN else _moved(base, memory.displacement)
        if store:
            registers = range(d, 32) if opcode == _STMW else (d,)
            self._store(here, state, registers if opcode in (_STW, _STWU, _STMW) else (), into=at)
            if opcode == _STWU and a == 1 and d == 1 and base is not None and at is not None:
                self._chains[at] = base
                state[1] = at
            else:
                for register in _named(here.defs):
                    _set(state, register, at if register == a else None)
            return
        chain = at is not None and memory.displacement == 0 and at == state.get(1)
        value = self._load(here, at, memory.width, chain=chain) if at is not None else None
        for register in _named(here.defs):
            state.pop(register, None)
        if opcode == _LWZ and value is not None:
            state[d] = value

    def _load(self, here: Instruction, at: int, width: int, *, chain: bool) -> int | None:
        """Return what is known of what a load from the stack gives; ``chain``: the first word of a frame."""
        if chain and at < 0:
            return self._chains.get(at, 0)  # in a frame of unknown size: the function's only one
        if at == 0:
            raise _Objection(here.address, "reads where its caller's frame ends")
        if at >= ARGUMENTS:
            self.reads = max(self.reads, at + width - ARGUMENTS)
        return _KEPT if at in _LR_SLOTS or at < 0 else None

    def _store(self, here: Instruction, state: State, registers: Sequence[int], *, into: int | None) -> None:
        """Look at a store of some registers at a distance from the entry's r1, None: anywhere."""
        if into is not None and (into == 0 or into >= self._abi.linkage):
            raise _Objection(here.address, "writes into its caller's frame")
        for register in registers:
            value = state.get(register, _DEEP)
            if value == _RETURN and (into is None or (into >= 0 and into not in _LR_SLOTS)):
                raise _Objection(here.address, "keeps where it was called from")
            if 0 <= value < _RETURN and not (here.word >> 26 == _STWU or here.word >> 26 == _X):
                raise _Objection(here.address, "keeps the address of its caller's frame")


def _set(state: dict[int, int], register: int, value: int | None) -> None:
    if value is None:
        state.pop(register, None)
    else:
        state[register] = value


def _moved(base: int, by: int) -> int:
    return base if base == _DEEP else base + by


def _named(defs: int) -> list[int]:
    """Return the numbers of the general-purpose registers in a mask."""
    return [number for number in range(32) if defs >> number & 1]


def _merged(one: State, other: State) -> State:
    """Return what holds after either of two states."""
    found = {}
    for register in one.keys() & other.keys():
        left, right = one[register], other[register]
        if left == right:
            found[register] = left
        elif left < 0 and right < 0:
            found[register] = _DEEP
    return found
