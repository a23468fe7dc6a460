"""Big graphs made readable: which nodes are shown, and which are drawn as one."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["distances", "grouped", "hottest_first", "joined"]


def distances(entry: int, successors: Mapping[int, Iterable[int]]) -> dict[int, int]:
    """Return by how many edges, at least, each node that can be reached is away from the entry."""
    found, pending = {entry: 0}, deque([entry])
    while pending:
        here = pending.popleft()
        for onward in successors.get(here, ()):
            if onward not in found:
                found[onward] = found[here] + 1
                pending.append(onward)
    return found


def hottest_first(nodes: Iterable[int], hits: Mapping[int, int]) -> list[int]:
    """Return the nodes that ran, those that did most first, then those of which it is not known."""
    known = [node for node in nodes if hits.get(node) != 0]
    return sorted(known, key=lambda node: (-hits.get(node, 0), node))


def grouped(
    nodes: Iterable[int], edges: Iterable[tuple[int, int]], kind: Callable[[int], str]
) -> dict[int, list[int]]:
    """Return the groups of nodes of one kind that edges connect, by the first of each."""
    left = sorted(nodes)
    kinds = {node: kind(node) for node in left}
    beside = defaultdict[int, list[int]](list)
    for source, target in edges:
        if kinds.get(source) == kinds.get(target) and source in kinds:
            beside[source].append(target)
            beside[target].append(source)
    found: dict[int, list[int]] = {}
    seen = set[int]()
    for node in left:
        if node not in seen:
            group = sorted(distances(node, beside))
            seen.update(group)
            found[node] = group
    return found


def joined(
    edges: Sequence[tuple[int, int, str, int | None]], groups: Mapping[int, Sequence[int]]
) -> list[tuple[int, int, str, int | None]]:
    """Return edges (source, target, kind, count) with groups as their ends, each once.

    Counts are summed; where one is not known the sum is not. Those within a group are left out.
    """
    of = {node: first for first, group in groups.items() for node in group}
    found: dict[tuple[int, int, str], int | None] = {}
    for source, target, kind, count in edges:
        begin, end = of.get(source, source), of.get(target, target)
        if begin == end and begin in groups:
            continue
        before = found.get((begin, end, kind), 0)
        found[begin, end, kind] = None if before is None or count is None else before + count
    return [(*ends, count) for ends, count in found.items()]
