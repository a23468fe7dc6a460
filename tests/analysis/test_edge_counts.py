"""Which edges of a function the counts of its blocks tell."""

from __future__ import annotations

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.profiles.block_counts import edge_counts

from .code import BASE, assemble, needs_as


def told(source: str, hits: dict[int, int], entered: set[int]) -> dict[tuple[int, int], int]:
    graph = FlowGraph(assemble(source), BASE)
    counted = {BASE + at: many for at, many in hits.items()}
    found = edge_counts(graph.blocks, counted, {BASE + at for at in entered})
    return {(edge.source - BASE, edge.target - BASE): many for edge, many in found.items()}


DIAMOND = "cmpwi r3,0\n beq 1f\n li r3,1\n b 2f\n1: li r3,2\n2: blr"


@needs_as
def test_edges_are_counted_where_blocks_tell() -> None:
    hits = {0: 10, 8: 7, 16: 3, 20: 10}
    assert told(DIAMOND, hits, {0}) == {(0, 16): 3, (0, 8): 7, (8, 20): 7, (16, 20): 3}


@needs_as
def test_a_block_that_is_entered_otherwise_does_not_tell() -> None:
    assert told(DIAMOND, {0: 10, 8: 7, 16: 3, 20: 10}, {0, 16}) == {(0, 8): 7, (8, 20): 7, (16, 20): 3}


@needs_as
def test_what_is_not_counted_does_not_tell() -> None:
    assert told(DIAMOND, {0: 10, 8: 7, 20: 10}, {0}) == {(0, 8): 7, (8, 20): 7}
    assert told("cmpwi r3,0\n1: beqlr\n bdnz 1b\n b 1b", {0: 5, 4: 9, 8: 4, 12: 1}, {0}) == {
        (0, 4): 5,
        (4, 8): 4,
        (8, 12): 1,
        (12, 4): 1,
    }
