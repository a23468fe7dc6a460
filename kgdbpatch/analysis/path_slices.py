"""Follow the paths that lead to an indirect branch (backward slices), and read the table that it goes by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kgdbpatch.analysis.arrays import Grouped
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.memory import Memory
from kgdbpatch.analysis.regset import RegSet, from_mask
from kgdbpatch.analysis.symbolic import Expression, State, terms
from kgdbpatch.isa.decode import Kind
from kgdbpatch.isa.registers import mask

__all__ = ["Path", "Resolver", "Search"]

_LONGEST = 1 << 14  # entries of a table
_PATHS = 48  # paths to a branch that are looked at
_DEPTH = 16  # blocks of one path
_NEAR = 400  # blocks over which a register's number is looked for
_ROUNDS = 6
_CALL_PATHS = 8  # paths to a call that are looked at
_CALL_DEPTH = 4  # blocks of one, the call's aside
_LEAST = 3  # entries of what may be a table
_TOP = 0xFFFFFFFF
_LR, _CTR = from_mask(mask("lr")), from_mask(mask("ctr"))
_FIELDS = from_mask(mask(*(f"cr{n}" for n in range(8))))


class Path(NamedTuple):
    """A path to a block's end: the blocks run in order, and whether each but the last branched."""

    blocks: tuple[int, ...]
    branched: tuple[bool, ...]


class Resolver:
    """The search for the table of one branch at a time."""

    def __init__(self, blocks: Blocks, changes: RegSet, data: Sequence[tuple[int, bytes]]) -> None:
        self._blocks, self._program, self._defs = blocks, blocks.program, changes
        self._memory = Memory(data)
        self._numbers: dict[tuple[int, int], tuple[int | None, frozenset[int]]] = {}
        self._throughout: dict[tuple[int, int], int | None] = {}
        starts = blocks.first if len(blocks.first) else np.zeros(0, dtype=np.int64)
        self._kills = np.bitwise_or.reduceat(changes, starts) if len(starts) else changes
        self._learnt: list[tuple[int, set[int]]] = []
        # (address, entries) of the tables of each branch
        self.places: dict[int, set[tuple[int, int]]] = {}
        # tables of which the address is loaded from memory, as position-independent code does it
        self.loaded: dict[int, dict[tuple[int, int], tuple[int, ...]]] = {}
        # tables of addresses, by branch
        self.absolute: dict[int, dict[tuple[int, int], tuple[int, ...]]] = {}
        self._by_table = defaultdict[int, set[tuple[int, bool]]](set)
        falls = np.flatnonzero(blocks.fall >= 0)
        self._fallen_from = np.full(len(blocks.first) + 1, -1, dtype=np.int64)
        self._fallen_from[blocks.fall[falls]] = falls
        jumps = np.flatnonzero(blocks.taken >= 0)
        self._jumps = Grouped(blocks.taken[jumps], jumps, len(blocks.first))
        self._alone: dict[int, State] = {}  # what single blocks leave in CTR and LR
        self._direct: dict[int, list[tuple[int, bool]]] = {}
        self._branches: dict[int, list[tuple[int, bool]]] = {}
        for block in np.flatnonzero(blocks.indirect).tolist():
            self._branches.setdefault(int(blocks.owner[block]), []).append((block, True))

    def learn(self, block: int, targets: Sequence[int]) -> set[int]:
        """Take edges of a table into account; return the blocks to which they are new."""
        index = self._program.index_of(np.array(targets, dtype=np.int64))
        starts = set(self._blocks.of_word[index].tolist())
        self._learnt.append((block, starts))
        return starts

    def forget(self) -> None:
        """Drop what was found out before the last edges were learnt."""
        self._numbers.clear()
        for source, targets in self._learnt:
            for target in targets:
                self._by_table[target].add((source, True))
        self._learnt.clear()

    def _predecessors(self, block: int) -> list[tuple[int, bool]]:
        """Return the blocks from which control comes within the function, and whether by a branch.

        What no known edge leads to may be entered from any indirect branch of the function.
        """
        direct = self._direct.get(block)
        if direct is None:
            direct = [(source, True) for source in self._jumps.at(block).tolist()]
            if self._fallen_from[block] >= 0:
                direct.insert(0, (int(self._fallen_from[block]), False))
            self._direct[block] = direct
        known = sorted(self._by_table.get(block, ())) + direct
        return known if known else self._branches.get(int(self._blocks.owner[block]), [])

    def number(self, block: int, register: int) -> tuple[int | None, frozenset[int]]:
        """Return the number that a register holds whenever a block begins, and the blocks asked about."""
        everywhere = self._always(int(self._blocks.owner[block]), register) if register >= 14 else None
        if everywhere is not None:
            return everywhere, frozenset()
        key = block, register
        if key not in self._numbers:
            self._numbers[key] = self._find_number(block, register)
        return self._numbers[key]

    def _always(self, function: int, register: int) -> int | None:
        """Return the only number that a function puts into a preserved register."""
        key = function, register
        if key not in self._throughout:
            self._throughout[key] = self._find_always(function, register)
        return self._throughout[key]

    def _find_always(self, function: int, register: int) -> int | None:
        first, end = int(self._program.entry[function]), int(self._program.end[function])
        at = first + np.flatnonzero(self._defs[first:end] >> np.uint64(register) & np.uint64(1))
        # what is loaded from the frame is the caller's value, put back
        words = self._program.words[at].tolist()
        at = at[[not (word >> 26 in (32, 46) and word >> 16 & 31 in (1, 11)) for word in words]]
        home = self._blocks.of_word[at]
        if not 1 <= len(at) <= 4 or (home != home[0]).any():
            return None
        value = self._run(Path((int(home[0]),), ()), int(at[-1]) + 1, 1 << register).get(register)
        return int(value[1]) if value[0] == "const" else None  # type: ignore[call-overload]

    def _find_number(self, block: int, register: int) -> tuple[int | None, frozenset[int]]:
        found: int | None = None
        seen, pending = {block}, [block]
        while pending:
            here = pending.pop()
            before = self._predecessors(here)
            if not before or self._is_entry(here) or len(seen) > _NEAR:
                return None, frozenset(seen)
            for source, _ in before:
                value = self._left(source, register)
                if value is None:
                    if source not in seen:
                        seen.add(source)
                        pending.append(source)
                    continue
                if value[0] != "const" or found not in (None, value[1]):
                    return None, frozenset(seen)
                found = int(value[1])  # type: ignore[call-overload]
        return found, frozenset(seen)

    def _left(self, block: int, register: int) -> Expression | None:
        """Return what a block leaves in a register; None when it leaves the register alone."""
        blocks = self._blocks
        last = int(blocks.last[block])
        if blocks.plain_call[block] and register < 14:
            return ("at", last << 6 | register, _TOP)
        if not int(self._kills[block]) >> register & 1:
            return None
        return self._run(Path((block,), ()), last + 1, 1 << register).get(register)

    def _run(self, path: Path, end: int, wanted: int) -> State:
        """Evaluate a path up to a word, as far as a set of ``wanted`` registers depends on it."""
        program, blocks = self._program, self._blocks
        pieces: list[tuple[int, int, list[tuple[int, int, int]]]] = []
        wanted |= _LR  # which mflr reads
        for block in reversed(path.blocks):
            first, last = int(blocks.first[block]), int(blocks.last[block])
            behind = last + 1 if pieces else end
            words, changes = program.words[first:behind].tolist(), self._defs[first:behind].tolist()
            steps = []
            for offset in range(behind - first - 1, -1, -1):
                word, defs = words[offset], changes[offset]
                if defs & wanted:
                    steps.append((offset, word, defs))
                    wanted |= 1 << (word >> 21 & 31) | 1 << (word >> 16 & 31) | 1 << (word >> 11 & 31)
            pieces.append((first, last, steps))
        state = State()
        for number, (block, (first, last, steps)) in enumerate(
            zip(path.blocks, reversed(pieces), strict=True)
        ):
            address = int(program.address[first])
            for offset, word, defs in reversed(steps):
                state.step(word, first + offset, address + 4 * offset, defs)
            if number < len(path.branched):
                if blocks.kind[block] in (Kind.BRANCH, Kind.RETURN):
                    state.branch(int(program.words[last]), path.branched[number])
                elif blocks.plain_call[block]:
                    state.call(last)
        return state

    def value(self, path: Path) -> tuple[Expression | None, State]:
        """Return what CTR holds at the end of a path."""
        state = self._alone.get(path.blocks[0]) if len(path.blocks) == 1 else None
        if state is None:
            wanted = _CTR | _FIELDS if path.branched else _CTR
            state = self._run(path, int(self._blocks.last[path.blocks[-1]]), wanted)
            if not path.branched:
                self._alone[path.blocks[0]] = state
        return state.ctr, state

    def _sum(self, head: int, expression: Expression, asked: set[int]) -> tuple[int, list[Expression]]:
        """Return an expression as a number and the rest; ``head`` is the block it was evaluated from."""
        total, rest = terms(expression)
        unknown = []
        for part in rest:
            number = None
            if part[0] == "in":
                number, seen = self.number(head, int(part[1]))  # type: ignore[call-overload]
                asked |= seen
            if number is None:
                unknown.append(part)
            else:
                total += number
        return total & _TOP, unknown

    def _by_memory(
        self, head: int, parts: list[Expression], asked: set[int]
    ) -> tuple[int, list[Expression], bool]:
        """Take words at known addresses for numbers; return their sum, the rest, whether there are any."""
        total, rest = 0, []
        for part in parts:
            held = None
            if part[0] == "load" and part[3] == _TOP:
                address, unknown = self._sum(head, part[1], asked)  # type: ignore[arg-type]
                held = None if unknown else self._memory.words(address, 1)
            if held is None:
                rest.append(part)
            else:
                total += held[0]
        return total, rest, len(rest) < len(parts)

    def target(self, block: int, *, by_lr: bool) -> tuple[int | None, set[int]]:
        """Return the only number that CTR (or LR) holds at a block's end, and what memory has to begin with.

        The number is None where it is not the same along every path, or not known along some. The
        second are the words of memory that are loaded from known addresses.
        """
        pending, numbers, held, tried = [Path((block,), ())], set[int | None](), set[int](), 0
        while pending and tried < _CALL_PATHS:
            path = pending.pop()
            tried += 1
            value, state = self.value(path)
            value = state.lr if by_lr else value
            head = path.blocks[0]
            if value is None and len(path.blocks) <= _CALL_DEPTH and not self._is_entry(head):
                pending += [
                    Path((source, *path.blocks), (branched, *path.branched))
                    for source, branched in self._predecessors(head)
                    if source not in path.blocks
                ]
                numbers |= set() if pending else {None}
                continue
            number = None
            if value is not None and value[0] == "load":
                place, unknown = terms(value[1])  # type: ignore[arg-type]
                word = None if unknown or value[3] != _TOP else self._memory.words(place, 1)
                held.update(word or ())
            elif value is not None and value[0] != "at":
                total, unknown = self._sum(head, value, set())
                number = None if unknown else total
            numbers.add(number)
        known = len(numbers) == 1 and not pending
        return numbers.pop() if known else None, held

    def table(self, path: Path, value: Expression, state: State, asked: set[int]) -> tuple[int, ...] | None:
        """Return the targets of a branch through a table; None when they cannot be told."""
        head, branch = path.blocks[0], path.blocks[-1]
        function = int(self._blocks.owner[branch])
        base, parts = self._sum(head, value, asked)
        more, parts, base_held = self._by_memory(head, parts, asked)
        base = base + more & _TOP
        if len(parts) != 1 or parts[0][0] != "load":
            return None
        place, scaled = self._sum(head, parts[0][1], asked)  # type: ignore[arg-type]
        more, scaled, place_held = self._by_memory(head, scaled, asked)
        place = place + more & _TOP
        if len(scaled) != 1 or scaled[0][0] != "shl" or scaled[0][2] != 2:
            return None
        limit = state.limit(scaled[0][1])  # type: ignore[arg-type]
        if limit >= _LONGEST:
            return None
        entries = self._memory.words(place, limit + 1)
        if entries is None:
            return None
        targets = tuple(sorted({(base + entry) & _TOP for entry in entries}))
        index = self._program.index_of(np.array(targets, dtype=np.int64))
        if (index < 0).any() or (self._program.function[index] != function).any():
            return None
        if base_held or place_held:  # the memory may be written to
            self.loaded.setdefault(branch, {})[place, limit + 1] = targets
            return None
        self.places.setdefault(branch, set()).add((place, limit + 1))
        if not base:
            self.absolute.setdefault(branch, {})[place, limit + 1] = targets
        return targets

    def suppose(self, function: int) -> dict[int, tuple[int, ...]]:
        """Return what seem to be tables of a function, by address, and their targets.

        A table begins at an address that the function makes. It ends before what can be no entry.
        """
        program, found = self._program, dict[int, tuple[int, ...]]()
        words = program.words[program.entry[function] : program.end[function]].tolist()
        highs: dict[int, set[int]] = {}
        for word in words:
            if word >> 26 == 15:
                highs.setdefault(word >> 21 & 31, set()).add(word << 16 & _TOP)
        low = [
            (word >> 16 & 31, (word & 0xFFFF ^ 0x8000) - 0x8000) for word in words if word >> 26 in (14, 32)
        ]
        # clang's order: li, addis
        low += [
            (word >> 21 & 31, (word & 0xFFFF ^ 0x8000) - 0x8000)
            for word in words
            if word >> 16 & 0xFC1F == 14 << 10
        ]
        for place in {high + step & _TOP for base, step in low for high in highs.get(base, ())}:
            for origin in (place, 0):
                targets = self._entries(place, origin, function)
                if len(targets) >= _LEAST:
                    found[place] = targets
        return found

    def _entries(self, place: int, base: int, function: int) -> tuple[int, ...]:
        """Return the targets of a table without a known end; ``base`` is what distances are from."""
        first, end = int(self._program.entry_address[function]), self._program.end_address(function)
        targets: list[int] = []
        while len(targets) < _LONGEST:
            at = place + 4 * len(targets)
            entry = self._memory.words(at, 1)
            target = 0 if entry is None else (base + entry[0]) & _TOP
            if not first <= target < end or target & 3 or at in targets:
                break
            targets.append(target)
        return tuple(targets)

    def search(self, block: int) -> tuple[tuple[int, ...], set[int]] | None:
        """Return a branch's targets and the blocks whose predecessors were asked for."""
        found: set[int] = set()
        asked: set[int] = set()
        self.places.pop(block, None)
        pending, tried = [Path((block,), ())], 0
        while pending:
            path = pending.pop()
            tried += 1
            value, state = self.value(path)
            targets = None if value is None else self.table(path, value, state, asked)
            if targets is not None:
                found.update(targets)
                continue
            head = path.blocks[0]
            before = self._predecessors(head)
            if not before or tried > _PATHS or len(path.blocks) > _DEPTH or self._is_entry(head):
                return None
            asked.add(head)
            for source, branched in before:
                if source in path.blocks:
                    return None
                pending.append(Path((source, *path.blocks), (branched, *path.branched)))
        return tuple(sorted(found)), asked

    def _is_entry(self, block: int) -> bool:
        return bool(self._program.is_entry[self._blocks.first[block]])


class Search:
    """The search for all tables of a program."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.targets: dict[int, tuple[int, ...]] = {}
        self._asked: dict[int, set[int]] = {}

    def run(self, branches: Sequence[int]) -> None:
        """Resolve what can be resolved, until no table found leads into a path already looked at."""
        pending = list(branches)
        for _ in range(_ROUNDS):
            new: set[int] = set()
            for block in pending:
                result = self._resolver.search(block)
                before = self.targets.pop(block, None)
                if result is not None:
                    self.targets[block], self._asked[block] = result
                    if before != self.targets[block]:
                        new |= self._resolver.learn(block, self.targets[block])
            self._resolver.forget()
            pending = [block for block in self.targets if self._asked[block] & new]
            if not pending:
                return
        for block in pending:
            del self.targets[block]
