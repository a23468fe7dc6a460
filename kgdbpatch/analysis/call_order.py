"""Order functions by who calls whom: strongly connected ones together, those called first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rustworkx

from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Indices

__all__ = ["Levels", "call_edges", "levels"]


@dataclass(frozen=True)
class Levels:
    """Functions in groups that depend on themselves and on earlier groups only."""

    level: Indices
    functions: list[Indices]
    recursive: list[bool]  # whether a group's functions depend on each other


def call_edges(blocks: Blocks) -> tuple[Indices, Indices]:
    """Return the distinct pairs (function, function that control goes to from it), direct edges only."""
    across = []
    for target in (blocks.fall, blocks.taken):
        at = np.flatnonzero(target >= 0)
        across.append((blocks.owner[at], blocks.owner[target[at]]))
    for sources, targets in (blocks.table_edges, blocks.implicit_edges):
        across.append((blocks.owner[sources], blocks.owner[targets]))
    pairs = [np.stack(pair) for pair in across]
    pairs = [pair[:, pair[0] != pair[1]] for pair in pairs]
    for called in (blocks.callee, blocks.tail):
        at = np.flatnonzero(called >= 0)
        pairs.append(np.stack((blocks.owner[at], called[at])))
    every = np.concatenate(pairs, axis=1)
    count = max(len(blocks.program.entry), 1)
    keys = np.unique(every[0] * count + every[1])
    return keys // count, keys % count


def levels(blocks: Blocks) -> Levels:
    """Group the functions of a program."""
    sources, targets = call_edges(blocks)
    count = len(blocks.program.entry)
    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from_no_data(list(zip(sources.tolist(), targets.tolist(), strict=True)))
    component = np.zeros(count, dtype=np.int64)
    size = []
    for number, members in enumerate(rustworkx.strongly_connected_components(graph)):
        component[members] = number
        size.append(len(members))
    own, other = component[sources], component[targets]
    within = own == other
    level = np.zeros(len(size), dtype=np.int64)
    keys = np.unique(own[~within] * len(size) + other[~within])
    callers, starts = np.unique(keys // max(len(size), 1), return_index=True)
    called = keys % max(len(size), 1)
    while len(callers):
        deeper = np.maximum.reduceat(level[called], starts) + 1
        if (deeper == level[callers]).all():
            break
        level[callers] = deeper
    looped = np.zeros(len(size), dtype=np.bool_)
    looped[component[sources[within]]] = True
    # the components that loop come after the others of their level, so as not to hold those up
    rank = 2 * level + looped
    ranks, of_component = np.unique(rank, return_inverse=True)
    group = of_component[component] if count else component
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(ranks) + 1))
    functions = [order[s:e] for s, e in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    return Levels(group, functions, [bool(r & 1) for r in ranks.tolist()])
