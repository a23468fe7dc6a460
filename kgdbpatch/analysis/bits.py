"""Find which bits of a word of flags code tests, sets and clears, and which functions it calls for a bit.

Functions are run on abstract values (`bit_values`), each until nothing new is found. A callee that gets the
word's address is run with its caller's values; where a function adds what it got as an argument, those that
call it are looked at. What is not understood counts as a use of all bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from kgdbpatch.analysis.bit_values import (
    ALL,
    Added,
    Argument,
    Known,
    State,
    Value,
    Word,
    both,
    joined,
    mapped,
    masked,
    with_bits,
)
from kgdbpatch.analysis.cfg import Block, FlowGraph
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.operands import rotation_mask
from kgdbpatch.isa.registers import mask

__all__ = ["BitUses", "bit_uses"]

_CR0 = mask("cr0")
_SIGN = 1 << 31
_VOLATILE = (0, *range(3, 13))
_ARGUMENTS = range(3, 11)
_DEEP = 5  # calls that the word's address is followed through
_ROUNDS = 6  # callers of callers that hand on what is added


@dataclass
class BitUses:
    """The bits (as masks) of a word that code tests, sets and clears; ``routines``: functions by bit.

    ``unknown`` are the instructions that set or test what cannot be told, ``kept`` those that store the
    word's address, behind which nobody looks.
    """

    tests: int = 0
    sets: int = 0
    clears: int = 0
    routines: dict[int, tuple[int, ...]] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)

    @property
    def free(self) -> tuple[int, ...]:
        """The bits (0 is the lowest) that no code is known to use; none where something is unknown."""
        used = ALL if self.unknown else self.tests | self.sets | self.clears
        return tuple(bit for bit in range(32) if not used >> bit & 1)


def bit_uses(
    address: int,
    functions: Iterable[int],
    graph: Callable[[int], FlowGraph | None],
    callers: Callable[[int], Collection[int] | None],
    reads: Callable[[int], Collection[int]],
) -> BitUses:
    """Return how code uses the bits of the word at ``address``.

    ``functions`` are those that may make that address; ``graph(entry)`` is a function's flow graph,
    ``callers(entry)`` the functions that call or jump to it, None where others may; ``reads(entry)`` the
    registers that it reads before it changes them.
    """
    search = _Search(address, graph, reads)
    pending, seen = list(dict.fromkeys(functions)), set[int]()
    for _ in range(_ROUNDS):
        for entry in pending:
            seen.add(entry)
            search.function(entry)
        pending = []
        for entry in [entry for entry in search.handed_on() if entry not in search.asked]:
            search.asked.add(entry)
            above = callers(entry)
            if above is None:
                search.uses.unknown.add(entry)
            pending += [one for one in above or () if one not in pending]
        if not pending:
            return search.uses
    search.uses.unknown |= search.handed_on() - search.asked
    return search.uses


class _Search:
    def __init__(
        self,
        address: int,
        graph: Callable[[int], FlowGraph | None],
        reads: Callable[[int], Collection[int]],
    ) -> None:
        self.address, self._graph, self._reads = address, graph, reads
        self.uses = BitUses()
        self.adders: dict[int, set[int]] = {}  # function ─► arguments that it adds to the word
        self.returns: dict[int, Word] = {}  # function ─► what it returns of the word
        self.asked = set[int]()
        self._results: dict[tuple[int, int, tuple[tuple[int, Value], ...]], Value | None] = {}
        self._top = 0

    def function(self, entry: int) -> None:
        """Look at a function, whoever calls it."""
        self._top = entry
        given = self._run(entry, {register: Argument(register) for register in _ARGUMENTS}, 0)
        if isinstance(given, Word):
            self.returns[entry] = given

    def handed_on(self) -> set[int]:
        """Return the functions whose callers say what is added, or get bits of the word."""
        return {*self.adders, *self.returns}

    def _run(self, entry: int, state: State, depth: int) -> Value | None:
        """Run a function; return what it returns."""
        graph = self._graph(entry)
        if graph is None or depth > _DEEP:
            self.uses.kept.add(entry)
            return None
        before: dict[int, State] = {graph.address: state}
        pending = [graph.address]
        walk = _Walk(self, graph, depth)
        while pending:
            start = pending.pop()
            block = graph.blocks[start]
            after = walk.block(block, dict(before[start]), told=False)
            for edge in block.successors:
                new = after if edge.target not in before else joined(before[edge.target], after)
                if edge.target not in before or new != before[edge.target]:
                    before[edge.target] = new
                    pending.append(edge.target)
        for start, known in before.items():
            walk.block(graph.blocks[start], dict(known), told=True)
        if depth == 0:
            walk.note_routines()
        return walk.returned

    def _enter(self, entry: int, state: State, depth: int) -> Value | None:
        """Look at a callee that gets the word's address, with what its caller gives it; as `_run`."""
        arguments = {register: state[register] for register in _ARGUMENTS if register in state}
        key = self._top, entry, tuple(sorted(arguments.items(), key=lambda item: item[0]))
        if key not in self._results:
            self._results[key] = None  # of a call of itself nothing is known
            self._results[key] = self._run(entry, arguments, depth + 1)
        return self._results[key]

    def add(self, added: Added, at: int) -> None:
        """Note bits that are set."""
        if isinstance(added, int):
            self.uses.sets |= added
        elif isinstance(added, Argument):
            self.adders.setdefault(self._top, set()).add(added.register)
        else:
            self.uses.unknown.add(at)

    def call(self, target: int, state: State, at: int, depth: int) -> tuple[bool, Value | None]:
        """Note what a call does; return whether the callee gets the word's address, and what it returns."""
        given = any(self.is_address(value) for reg, value in state.items() if reg in _ARGUMENTS)
        if given:
            return True, self._enter(target, state, depth)
        if target in self.adders:
            for register in self.adders[target]:
                value = state.get(register)
                if isinstance(value, Known):
                    for number in value.numbers:
                        self.add(number, at)
                else:
                    self.add(value if isinstance(value, Argument) else None, at)
        read = self._reads(target)
        for register, value in state.items():
            if register in _ARGUMENTS and isinstance(value, Word) and register in read:
                self.test(value.keep, at)
        return False, self.returns.get(target)

    def is_address(self, value: Value | None) -> bool:
        return isinstance(value, Known) and self.address in value.numbers

    def test(self, mask: int, at: int) -> None:
        """Note bits that are looked at; all of them, otherwise than together, is what cannot be told."""
        if mask == ALL:
            self.uses.unknown.add(at)
        else:
            self.uses.tests |= mask


class _Walk:
    """Run blocks of one function; only a ``told`` run notes anything."""

    def __init__(self, search: _Search, graph: FlowGraph, depth: int) -> None:
        self._search, self._graph, self._depth = search, graph, depth
        self._told = False
        self.returned: Value | None = None
        self._returns = False
        self._tests: list[tuple[Block, int]] = []
        self._given = set[int]()  # calls that pass the word's address

    def block(self, block: Block, state: State, *, told: bool) -> State:
        """Return what is known behind a block."""
        self._told = told
        last: int | None = None  # the bits that cr0 tells of
        for one in block.instructions:
            last = self._step(one, state, last)
        if told and last is not None and block.last.conditional:
            if last.bit_count() == 1 and block.last.kind is Kind.BRANCH:
                self._tests.append((block, last))
            if block.last.word >> 16 & 3 < 2:  # less or greater than 0: by the sign
                self._search.test(_SIGN & last, block.last.address)
        return state

    def _place(self, one: Instruction, state: State) -> int | None:
        """Return how far behind the word a memory access begins, in bytes; None elsewhere."""
        memory = one.memory
        if memory is None:
            return None
        sums = {memory.displacement & ALL}
        for register in (memory.base, memory.index):
            if register is not None:
                value = state.get(register)
                if not isinstance(value, Known):
                    return None
                sums = {one + other & ALL for one in sums for other in value.numbers}
        found = [at - self._search.address for at in sums if 0 <= at - self._search.address < 4]
        return found[0] if found else None

    def _step(self, one: Instruction, state: State, last: int | None) -> int | None:
        word, major = one.word, one.word >> 26
        source, to = word >> 21 & 31, word >> 16 & 31
        if one.kind is Kind.RETURN and self._told:
            self._return(state)
        if one.kind is Kind.CALL or (one.kind is Kind.JUMP and one.target not in self._graph):
            self._call(one, state)
            return None
        if one.kind in (Kind.LOAD, Kind.STORE):
            at = self._place(one, state)
            width = one.memory.width if one.memory else 0
            if one.kind is Kind.STORE or one.mnemonic.startswith("stwcx"):
                self._store(one, state, source, at, width)
                return last
            self._changed(one, state)
            if at == 0 and width == 4:
                state[source] = Word()
            elif at is not None and self._told:
                self._search.test(self._bytes(at, width), one.address)
            return last
        value = self._result(one, state)
        compared = state.get(to) if major in (10, 11) else None
        if isinstance(compared, Word):
            number = word & 0xFFFF
            if number and self._told:
                self._search.test(compared.keep, one.address)
            last = compared.keep if not word >> 23 & 7 else last
            if self._told and (compared.keep != ALL or word >> 23 & 7):
                self._search.test(_SIGN if compared.keep == ALL else compared.keep, one.address)
        elif one.defs & _CR0 or major in (10, 11):
            last = value.keep if isinstance(value, Word) else None
            if isinstance(value, Word) and self._told and value.keep != ALL:
                self._search.test(value.keep, one.address)
        if value is None and major not in (10, 11) and self._told:
            self._used_otherwise(one, state)
        self._changed(one, state)
        if value is not None:
            register = source if major in (14, 15) else to
            state[register] = value
        return last

    @staticmethod
    def _bytes(at: int, width: int) -> int:
        return sum(0xFF << 8 * (3 - n) for n in range(at, min(at + width, 4)))

    @staticmethod
    def _changed(one: Instruction, state: State) -> None:
        for register in [register for register in state if one.defs >> register & 1]:
            del state[register]

    def _used_otherwise(self, one: Instruction, state: State) -> None:
        """Note the bits that an instruction reads whose result is not followed."""
        for register, value in state.items():
            if one.uses >> register & 1 and isinstance(value, Word):
                kept = value.keep
                if one.word >> 26 == 21:  # rlwinm, which turns them
                    shift, bits = one.word >> 11 & 31, rotation_mask(one.word)
                    kept &= (bits >> shift | bits << 32 - shift) & ALL
                self._search.test(kept, one.address)

    def _store(self, one: Instruction, state: State, source: int, at: int | None, width: int) -> None:
        value = state.get(source)
        if not self._told:
            return
        if at is None:
            if isinstance(value, Word):
                if not one.memory or one.memory.base != 1:  # elsewhere than into the frame
                    self._search.test(value.keep, one.address)
            elif isinstance(value, Known) and self._search.address in value.numbers:
                self._search.uses.kept.add(one.address)
        elif at or width != 4:
            self._search.uses.sets |= self._bytes(at, width)
        elif isinstance(value, Word):
            self._search.uses.clears |= ALL & ~value.keep
            self._search.add(value.added, one.address)
        elif isinstance(value, Known):
            for number in value.numbers:
                self._search.add(number, one.address)
        else:
            self._search.add(value, one.address)

    def _call(self, one: Instruction, state: State) -> None:
        result: Value | None = None
        if one.target is not None:
            given, result = self._search.call(one.target, state, one.address, self._depth)
            self._given |= {one.address} if given else set()
        elif self._told:
            for register in _ARGUMENTS:
                if self._search.is_address(state.get(register)):
                    self._search.uses.kept.add(one.address)
        for register in _VOLATILE:
            state.pop(register, None)
        if result is not None:
            state[3] = result
        if one.kind is Kind.JUMP and self._told:
            self._return(state)

    def _return(self, state: State) -> None:
        """Take down what the function returns here; what is not the same everywhere is not followed."""
        value = state.get(3)
        if self._returns and value != self.returned:
            for one in (value, self.returned):
                if isinstance(one, Word):
                    self._search.test(one.keep, self._graph.address)
            value = None
        self._returns, self.returned = True, value

    def _result(self, one: Instruction, state: State) -> Value | None:
        """Return what an instruction makes, where that is told."""
        word, major = one.word, one.word >> 26
        d, a, low = word >> 21 & 31, word >> 16 & 31, word & 0xFFFF
        high = low << 16 if major in (15, 25, 27, 29) else low
        if major in (14, 15):
            step = high if major == 15 else (low ^ 0x8000) - 0x8000
            return mapped(state.get(a) if a else Known(frozenset((0,))), lambda n: n + step & ALL)
        if major in (24, 25):
            return with_bits(state.get(d), Known(frozenset((high,))))
        if major in (28, 29):
            return masked(state.get(d), high)
        if major == 21 and not word >> 11 & 31:
            return masked(state.get(d), rotation_mask(word))
        if major != 31:
            return None
        minor, b = word >> 1 & 0x3FF, word >> 11 & 31
        if minor == 444:
            return state.get(d) if d == b else with_bits(state.get(d), state.get(b))
        if minor == 28:
            return both(state.get(d), state.get(b))
        if minor == 60:
            inverted = mapped(state.get(b), lambda n: ~n & ALL)
            return both(state.get(d), inverted)
        return None

    # ---- what is called for a bit -------------------------------------------------------------

    def note_routines(self) -> None:
        """Note, for each bit that is tested by itself, the first function called where it is set."""
        for block, tested in self._tests:
            routine = self._routine(block)
            if routine is not None:
                bit, uses = tested.bit_length() - 1, self._search.uses
                uses.routines[bit] = tuple(dict.fromkeys((*uses.routines.get(bit, ()), routine)))

    def _routine(self, block: Block) -> int | None:
        options, condition = block.last.word >> 21 & 31, block.last.word >> 16 & 31
        if condition != 2 or options & 0x14 != 4:
            return None
        taken = not options & 8  # bne
        starts = [edge.target for edge in block.successors if (edge.target == block.last.target) == taken]
        seen = set[int]()
        while len(starts) == 1 and starts[0] not in seen:
            here = self._graph.blocks[starts[0]]
            seen.add(here.start)
            for one in here.instructions:
                outside = one.target is not None and one.target not in self._graph
                if outside and one.kind in (Kind.CALL, Kind.JUMP) and one.address not in self._given:
                    return one.target
            starts = [edge.target for edge in here.successors]
        return None
