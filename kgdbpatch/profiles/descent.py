"""Descend from where control enters a kernel to where its time goes, by stacks that were looked at.

Functions are told by their addresses, paths lead from the outermost to the innermost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Moment", "Sample", "Step", "callees", "descend", "hottest", "under", "way_to", "while_waiting"]


class Sample(NamedTuple):
    """A thread's stack at a moment, or an interrupt's."""

    thread: int | None  # its structure's address; None: an interrupt, or nobody knows
    running: bool  # else it waits
    on_cpu: bool  # neither an interrupt nor another thread has its CPU
    path: tuple[int, ...]


class Moment(NamedTuple):
    """What all threads did at a moment."""

    samples: Sequence[Sample]


class Step(NamedTuple):
    """A function on the way down: how many of the stacks were in it, and how many of these waited."""

    function: int
    stacks: int
    waited: int


def under(moments: Sequence[Moment], root: int) -> list[Sample]:
    """Return the stacks that a function is on, from its outermost call on."""
    found = []
    for moment in moments:
        for one in moment.samples:
            if root in one.path:
                found.append(one._replace(path=one.path[one.path.index(root) :]))
    return found


def descend(samples: Sequence[Sample]) -> list[Step]:
    """Return the way down that most stacks went, to a function that mostly is on top then."""
    steps: list[Step] = []
    here, depth = list(samples), 0
    while here:
        onward = defaultdict[int, list[Sample]](list)
        for one in here:
            if len(one.path) > depth:
                onward[one.path[depth]].append(one)
        function = max(onward, key=lambda at: (len(onward[at]), at), default=0)
        found = onward[function]
        on_top = len(here) - sum(map(len, onward.values()))
        if not found or (steps and len(found) <= on_top):
            break
        steps.append(Step(function, len(found), sum(not one.running for one in found)))
        here, depth = found, depth + 1
    return steps


def hottest(samples: Sequence[Sample]) -> list[Step]:
    """Return the way down to the function that most stacks have on top."""
    tops = Counter(one.path[-1] for one in samples if one.path)
    return way_to(samples, max(tops, key=lambda at: (tops[at], at))) if tops else []


def way_to(samples: Sequence[Sample], function: int) -> list[Step]:
    """Return the way on which a function was mostly reached, each step with all stacks that were in it."""
    ways = Counter(one.path[: one.path.index(function) + 1] for one in samples if function in one.path)
    way = max(ways, key=lambda path: (ways[path], path), default=())
    inside = {at: [one for one in samples if at in one.path] for at in way}
    return [Step(at, len(found), sum(not one.running for one in found)) for at, found in inside.items()]


def callees(samples: Sequence[Sample], function: int, most: int) -> list[int]:
    """Return what a function was seen to call, the most often seen ones first."""
    found = Counter(callee for one in samples for caller, callee in pairwise(one.path) if caller == function)
    return [callee for callee, _ in found.most_common(most)]


def while_waiting(moments: Sequence[Moment], root: int, waiter: int, other: int) -> list[Sample]:
    """Return what one thread did while a call of ``root`` waited in another."""
    found = []
    for moment in moments:
        if any(one.thread == waiter and root in one.path and not one.running for one in moment.samples):
            found += [one for one in moment.samples if one.thread == other]
    return found
