"""Order functions by who calls whom: strongly connected ones together, those called first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import rustworkx

from kgdbpatch.analysis.arrays import Grouped, distinct, joined, marked
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Indices

__all__ = ["Levels", "call_edges", "levels"]


@dataclass(frozen=True)
class Levels:
    """Functions in groups that depend on themselves and on earlier groups only."""

    level: Indices
    functions: list[Indices]
    recursive: list[bool]  # whether a group's functions depend on each other


def call_edges(blocks: Blocks, likely: tuple[Indices, Indices] | None = None) -> tuple[Indices, Indices]:
    """Return the distinct pairs (function, function that control goes to from it), direct edges only.

    ``likely`` are more, as (block, function).
    """
    pairs = [blocks.between_functions(blocks.edges), blocks.calls, blocks.tail_calls]
    if likely is not None:
        pairs.append((blocks.owner[likely[0]], likely[1]))
    source, target = joined(pairs)
    count = max(len(blocks.program.entry), 1)
    keys = distinct(source * count + target)
    return keys // count, keys % count


def levels(edges: tuple[Indices, Indices], count: int) -> Levels:
    """Group ``count`` functions by `call_edges`."""
    component, components = _components(*edges, count)
    own, other = component[edges[0]], component[edges[1]]
    within = own == other
    level = _waves(own[~within], other[~within], components)
    # the components that loop come after the others of their level, so as not to hold those up
    rank = 2 * level + marked(components, own[within])
    many = np.bincount(rank)
    ranks = np.flatnonzero(many)
    group = (np.cumsum(many > 0) - 1)[rank[component]]
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(ranks) + 1)).tolist()
    functions = [order[start:end] for start, end in pairwise(bounds)]
    return Levels(group, functions, [bool(rank & 1) for rank in ranks.tolist()])


def _components(sources: Indices, targets: Indices, count: int) -> tuple[Indices, int]:
    """Return the number of each function's strongly connected component, and how many there are."""
    away = sources != targets
    sources, targets = sources[away], targets[away]
    # what leads to no cycle, or what no cycle leads to, is in none
    core = _waves(sources, targets, count) < 0
    left = core[sources] & core[targets]
    core &= _waves(targets[left], sources[left], count) < 0
    left = core[sources] & core[targets]
    component = np.cumsum(~core) - 1
    members = np.flatnonzero(core)
    number = np.cumsum(core) - 1
    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(len(members)))
    edges = zip(number[sources[left]].tolist(), number[targets[left]].tolist(), strict=True)
    graph.add_edges_from_no_data(list(edges))
    components = count - len(members)
    for together in rustworkx.strongly_connected_components(graph):
        component[members[list(together)]] = components
        components += 1
    return component, components


def _waves(sources: Indices, targets: Indices, count: int) -> Indices:
    """Return how many edges lead on from each of ``count`` places at most, -1 where there is no end of it."""
    before = Grouped(targets, sources, count)
    left = np.bincount(sources, minlength=count)
    wave = np.full(count, -1, dtype=np.int64)
    front, number = np.flatnonzero(left == 0), 0
    while len(front):
        wave[front] = number
        freed = before.of(front)
        np.subtract.at(left, freed, 1)
        front, number = distinct(freed[left[freed] == 0]), number + 1
    return wave
