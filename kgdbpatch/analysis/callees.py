"""Say what calls and tail calls read and change, from the callee's own code."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

from kgdbpatch.analysis.convention import demand, is_odd_name, oddities, put_back
from kgdbpatch.analysis.flow import FlowGraph, Words
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.registers import ALL, mask

__all__ = ["ANYTHING", "Callees", "Code", "Effect", "by_convention", "unknown"]

_KEPT = mask("r1", "r2", "r13", "so", "fpscr")


class Code(NamedTuple):
    """A function: its name, where it starts and its words."""

    name: str
    address: int
    words: Words


class Effect(NamedTuple):
    """What a call certainly overwrites, and what it may read."""

    defs: int
    uses: int


ANYTHING = Effect(defs=0, uses=ALL)


def by_convention(abi: ABI, *, indirect: bool) -> Effect:
    """Return the effect of a call under the convention; ``indirect`` adds what stubs may read."""
    return Effect(abi.volatile, abi.args | _KEPT | (abi.indirect if indirect else 0))


def unknown(abi: ABI) -> Effect:
    """Return the effect of a direct call of unknown code, which may save registers for its caller."""
    found = by_convention(abi, indirect=True)
    return Effect(found.defs, found.uses | abi.preserved)


class Callees:
    """The callees of one image, judged once each.

    ``function`` returns the function that an address is in. ``odd`` holds functions whose callers
    are known to rely on more than the convention gives (`whole.odd_callees`).
    """

    def __init__(
        self, function: Callable[[int], Code | None], abi: ABI, odd: Container[int] = frozenset()
    ) -> None:
        self._function, self._abi, self._odd = function, abi, odd
        self._wanted: dict[int, int | None] = {}
        self._stored: dict[int, int] = {}  # preserved registers read for other purposes than to put them back

    def is_odd(self, address: int) -> bool:
        """Tell whether callers of a function rely on more than the convention."""
        return address in self._odd

    def _entry_demand(self, target: int) -> int | None:
        """Return what a function reads at its entry; None when it keeps to no convention."""
        if target in self._wanted:
            return self._wanted[target]
        code = self._function(target)
        if code is None or code.address != target or target in self._odd or is_odd_name(code.name):
            self._wanted[target] = None
            return None
        self._wanted[target] = 0  # a cycle of tail calls adds nothing of its own
        graph = FlowGraph(code.words, code.address)
        tails: dict[int, int] = {}
        for block in graph.blocks.values():
            for leaving in block.exits:
                if leaving.target is not None:
                    further = self._entry_demand(leaving.target)
                    if further is not None:
                        tails[leaving.target] = further
                    elif not block.last.conditional:
                        self._wanted[target] = None
                        return None
        wanted = demand(graph, self._abi, tails)
        odd = oddities(graph, self._abi, wanted)
        self._wanted[target] = None if odd else wanted.live_in[target]
        self._stored[target] = wanted.live_in[target] & self._abi.preserved & ~put_back(graph)
        return self._wanted[target]

    def call(self, target: int) -> Effect:
        """Return the effect of a direct call."""
        if self._function(target) is None:
            return unknown(self._abi)
        if self._entry_demand(target) is None:
            return ANYTHING
        found = by_convention(self._abi, indirect=self._abi.red_zone > 0)
        return Effect(found.defs, found.uses | self._stored.get(target, 0))

    def tail(self, target: int) -> int:
        """Return what is live at a branch out of the function."""
        if self._entry_demand(target) is None:
            return ALL
        return by_convention(self._abi, indirect=True).uses | self._abi.preserved | mask("lr")
