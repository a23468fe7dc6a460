"""The call graph of a whole kernel: who calls whom, by branches and by addresses made or stored."""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import rustworkx

from kgdbpatch.analysis.addresses import made_addresses
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Indices, Program, aligned_words
from kgdbpatch.analysis.regset import RegSet

__all__ = ["Call", "CallGraph", "CallKind", "Neighbour"]


class CallKind(enum.Enum):
    """How control may get from one function to another.

    ``ADDRESS`` is no call: a function makes the other's address, or that of a data object which
    holds some; or a data object holds the function's address. Somebody may call it then.
    """

    CALL = "call"
    TAIL = "tail"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Call:
    """An edge between two functions, or a function and a data object, by their addresses.

    ``places`` are how many instructions call, or jump, so; it is 1 for an address.
    """

    source: int
    target: int
    kind: CallKind
    places: int = field(default=1, compare=False)


class Neighbour(NamedTuple):
    """A function near another: how far (below 0: callers), and through which nearer one it was found."""

    level: int
    through: int


def _direct(blocks: Blocks, constants: Mapping[int, int]) -> Iterable[tuple[Indices, Indices, CallKind]]:
    """Yield (functions, functions called, kind)."""
    program = blocks.program
    yield *blocks.calls, CallKind.CALL
    yield *blocks.tail_calls, CallKind.TAIL
    yield *blocks.across, CallKind.TAIL
    places = np.array(list(constants.items()), dtype=np.int64).reshape(-1, 2)
    source, target = program.index_of(places[:, 0]), program.index_of(places[:, 1])
    good = (target >= 0) & program.is_entry[target]
    yield program.function[source[good]], program.function[target[good]], CallKind.CALL


def _held(program: Program, objects: Sequence[tuple[int, bytes]]) -> tuple[Indices, Indices]:
    """Return (object, function whose address it holds), both by number."""
    owners, targets = [], []
    for number, (address, data) in enumerate(objects):
        index = program.index_of(aligned_words(address, data).astype(np.int64))
        index = index[index >= 0]
        found = np.unique(program.function[index[program.is_entry[index]]])
        owners.append(np.full(len(found), number))
        targets.append(found)
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *owners]), np.concatenate([empty, *targets])


class CallGraph:
    """Functions, and data that hold functions, by their addresses, and the calls between them.

    ``constants`` are the targets of indirect branches and calls that are numbers, by address.
    ``changes`` are the sets of what the words change. ``objects`` are (address, bytes) of data
    objects; those that hold addresses of functions are part of the graph.
    """

    def __init__(
        self,
        blocks: Blocks,
        changes: RegSet,
        constants: Mapping[int, int] | None = None,
        objects: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        starts = blocks.program.entry_address
        kinds: dict[tuple[int, int], CallKind] = {}
        places: dict[tuple[int, int], int] = {}
        for source, target, kind in self._pairs(blocks, changes, constants or {}, objects):
            for pair in zip(source.tolist(), target.tolist(), strict=True):
                if kinds.setdefault(pair, kind) is kind:
                    places[pair] = 1 if kind is CallKind.ADDRESS else places.get(pair, 0) + 1
        self.functions: tuple[int, ...] = tuple(starts.tolist())
        ends = {end for pair in kinds for end in pair}
        self.objects: tuple[int, ...] = tuple(sorted(ends.difference(self.functions)))
        self.calls: tuple[Call, ...] = tuple(Call(*pair, kinds[pair], places[pair]) for pair in sorted(kinds))
        self._leaf = np.ones(len(starts), dtype=np.bool_)
        self._leaf[blocks.owner[blocks.links]] = False

    @staticmethod
    def _pairs(
        blocks: Blocks, changes: RegSet, constants: Mapping[int, int], objects: Sequence[tuple[int, bytes]]
    ) -> Iterable[tuple[Indices, Indices, CallKind]]:
        """Yield (addresses, addresses that control or an address leads to from there, kind)."""
        program = blocks.program
        starts = program.entry_address
        for source, target, kind in _direct(blocks, constants):
            yield starts[source], starts[target], kind
        places = np.array([address for address, _ in objects], dtype=np.int64)
        holder, held = _held(program, objects)
        yield places[holder], starts[held], CallKind.ADDRESS
        goals = np.concatenate([starts, places[np.unique(holder)]])
        user, used = made_addresses(blocks, changes, goals)
        yield starts[user], goals[used], CallKind.ADDRESS

    @cached_property
    def _ends(self) -> tuple[dict[int, list[Call]], dict[int, list[Call]]]:
        """The calls by their source, and by their target."""
        out, into = defaultdict[int, list[Call]](list), defaultdict[int, list[Call]](list)
        for call in self.calls:
            out[call.source].append(call)
            into[call.target].append(call)
        return out, into

    def callees(self, function: int) -> list[Call]:
        """Return the calls out of a function."""
        return self._ends[0].get(function, [])

    def callers(self, function: int) -> list[Call]:
        """Return the calls to a function."""
        return self._ends[1].get(function, [])

    def around(self, place: int, depth: int) -> tuple[list[Call], dict[int, Neighbour]]:
        """Return the calls that lead to a function and from it, by up to ``depth`` others, and these.

        Beyond the first level only calls are followed, no addresses.
        """
        calls, found = dict[Call, None](), {place: Neighbour(0, place)}
        for step, ends in ((-1, self._ends[1]), (1, self._ends[0])):
            border = [place]
            for level in range(1, depth + 1):
                nearer, border = border, []
                for here in nearer:
                    for call in ends.get(here, []):
                        if level > 1 and call.kind is CallKind.ADDRESS:
                            continue
                        calls[call] = None
                        other = call.source if step < 0 else call.target
                        if other not in found:
                            found[other] = Neighbour(step * level, here)
                            border.append(other)
        return [*calls], found

    def is_leaf(self, function: int) -> bool:
        """Tell whether a function calls nothing (jumps at its end left aside), as data do."""
        index = int(np.searchsorted(self.functions, function))
        known = index < len(self.functions) and self.functions[index] == function
        return bool(self._leaf[index]) if known else True

    def chain(self, source: int, target: int, *, addresses: bool = False) -> list[Call] | None:
        """Return a shortest chain of calls between two functions, None where there is none.

        ``addresses`` lets it go through functions whose addresses are only made.
        """
        came: dict[int, Call] = {}
        pending = deque([source])
        while pending:
            for call in self.callees(pending.popleft()):
                if call.target in came or (call.kind is CallKind.ADDRESS and not addresses):
                    continue
                came[call.target] = call
                if call.target == target:
                    return _back(came, source, target)
                pending.append(call.target)
        return None

    @cached_property
    def components(self) -> list[tuple[int, ...]]:
        """The strongly connected components of more than one function, largest first."""
        graph = rustworkx.PyDiGraph()
        graph.add_nodes_from(self.functions)
        number = {function: index for index, function in enumerate(self.functions)}
        paths = [(number[c.source], number[c.target]) for c in self.calls if c.kind is not CallKind.ADDRESS]
        graph.add_edges_from_no_data(paths)
        found = [
            tuple(sorted(self.functions[index] for index in members))
            for members in rustworkx.strongly_connected_components(graph)
            if len(members) > 1
        ]
        return sorted(found, key=lambda members: (-len(members), members))


def _back(came: Mapping[int, Call], source: int, target: int) -> list[Call]:
    chain = [came[target]]
    while chain[-1].source != source:
        chain.append(came[chain[-1].source])
    return chain[::-1]
