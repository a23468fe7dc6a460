"""Tell whether a payload that calls the kernel may come back to its own site, by the kernel's branches.

What is not known counts as a way back: calls through pointers, system calls, traps, resolved faults.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.arrays import Grouped, distinct

__all__ = ["DirectCalls", "Reached"]

_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reached:
    """What can be reached from some functions, each with what leads to it; ``unknown``: more may be."""

    came_from: dict[int, int | None] = field(default_factory=dict)
    unknown: bool = False

    def chain(self, function: int) -> list[int]:
        """Return the functions on a shortest way to one of those reached, itself the last."""
        found: list[int] = []
        at: int | None = function
        while at is not None:
            found.append(at)
            at = self.came_from[at]
        return found[::-1]


class DirectCalls:
    """The direct calls between functions; instructions at ``faults`` have theirs resolved by the kernel."""

    def __init__(
        self,
        sections: Iterable[tuple[int, npt.NDArray[np.uint32]]],
        functions: Iterable[tuple[int, int]],
        faults: Collection[int] = (),
    ) -> None:
        self._starts, self._ends = np.array(sorted(functions), np.int64).reshape(-1, 2).T
        self._ends = self._starts + self._ends
        self._unknown = np.zeros(len(self._starts) + 1, np.bool_)  # the last one: no known function
        self._unknown[-1] = True
        pairs = [np.zeros((2, 0), np.int64)]
        for address, words in sections:
            self._note_unknown(address, words)
            pairs.append(self._branches(address, words))
        self._unknown[self._owner(np.array(list(faults), np.int64))] = True
        source, target = np.concatenate(pairs, axis=1)
        count = len(self._unknown)
        keys = distinct(source * count + target)
        self._targets = Grouped(keys // count, keys % count, count)

    def _owner(self, addresses: _Indices) -> _Indices:
        """Return the numbers of the functions that addresses lie in, -1 for none."""
        return self._inside(addresses, np.searchsorted(self._starts, addresses, "right") - 1)

    def _owner_of_ascending(self, addresses: _Indices) -> _Indices:
        """Return the same of addresses that ascend; functions are fewer, so these are looked up."""
        first = np.searchsorted(addresses, self._starts)
        counts = np.diff(first, prepend=0, append=len(addresses))
        return self._inside(addresses, np.repeat(np.arange(-1, len(first)), counts))

    def _inside(self, addresses: _Indices, index: _Indices) -> _Indices:
        index[(index >= 0) & (addresses >= self._ends[index])] = -1
        return index

    def _note_unknown(self, address: int, words: npt.NDArray[np.uint32]) -> None:
        opcode = (words >> np.uint32(26)).astype(np.uint8)
        at = np.flatnonzero((opcode == 19) | (opcode == 3) | (opcode == 31) | (opcode == 17))
        opcode, words = opcode[at], words[at]
        extended = words >> np.uint32(1) & np.uint32(0x3FF)
        by_ctr = (opcode == 19) & (extended == 528)
        by_lr = (opcode == 19) & (extended == 16) & (words & np.uint32(1) == 1)
        trap = (opcode == 3) | ((opcode == 31) & (extended == 4))
        at = at[by_ctr | by_lr | trap | (opcode == 17)]
        self._unknown[self._owner(address + 4 * at)] = True

    def _branches(self, address: int, words: npt.NDArray[np.uint32]) -> _Indices:
        """Return pairs of (function, function that a direct branch leads to from it)."""
        found, opcodes = [], (words >> np.uint32(26)).astype(np.uint8)
        for opcode, bits in ((18, 26), (16, 16)):
            at = np.flatnonzero(opcodes == opcode)
            word, here = words[at].view(np.int32), address + 4 * at
            distance = (word << 32 - bits >> 34 - bits) * 4  # its sign extended, AA and LK off
            target = np.where(word & 2, 0, here) + distance & 0xFFFF_FFFF
            source = self._owner_of_ascending(here)
            away = (source >= 0) & ~((self._starts[source] <= target) & (target < self._ends[source]))
            found.append(np.stack((source[away], self._owner(target[away]))))
        pairs = np.concatenate(found, axis=1)
        pairs = pairs[:, pairs[0] != pairs[1]]
        self._unknown[pairs[0, pairs[1] < 0]] = True
        return pairs[:, pairs[1] >= 0]

    def reached(self, called: Iterable[int]) -> Reached:
        """Return what can be reached from calls of some addresses; those of no function are left out."""
        came: dict[int, int | None] = {}
        start = [n for n in self._owner(np.array(sorted(called), np.int64)).tolist() if n >= 0]
        came |= dict.fromkeys(start)
        pending = deque(came)
        while pending:
            here = pending.popleft()
            for other in self._targets.at(here).tolist():
                if other not in came:
                    came[other] = here
                    pending.append(other)
        starts = self._starts.tolist()
        named = {starts[n]: None if before is None else starts[before] for n, before in came.items()}
        return Reached(named, bool(self._unknown[list(came)].any()))

    def function(self, address: int) -> int | None:
        """Return the start of the function that an address lies in."""
        number = int(self._owner(np.array([address], np.int64))[0])
        return int(self._starts[number]) if number >= 0 else None
