"""Blocks and edges of small functions, and of whole files counted in two ways."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.analysis.cfg import EdgeKind, ExitKind, FlowGraph
from kgdbpatch.analysis.statistics import analyze

from .code import BASE, assemble, needs_as


def _graph(source: str) -> FlowGraph:
    return FlowGraph(assemble(source), BASE)


def _edges(graph: FlowGraph) -> set[tuple[int, int, str]]:
    return {
        (edge.source - BASE, edge.target - BASE, edge.kind.value)
        for block in graph.blocks.values()
        for edge in block.successors
    }


@needs_as
def test_a_diamond() -> None:
    graph = _graph("cmpwi r3,0\n beq 1f\n li r3,1\n b 2f\n1: li r3,2\n2: blr")
    assert [start - BASE for start in graph.blocks] == [0, 8, 16, 20]
    assert _edges(graph) == {(0, 16, "taken"), (0, 8, "fall"), (8, 20, "taken"), (16, 20, "fall")}
    (leaving,) = graph.blocks[BASE + 20].exits
    assert leaving.kind is ExitKind.RETURN


@needs_as
def test_calls_do_not_end_blocks() -> None:
    assert len(_graph("bl far\n add r3,r3,r4\n blr").blocks) == 1


@needs_as
def test_a_call_into_the_function_itself_is_an_edge() -> None:
    graph = _graph("bl 1f\n blr\n1: blr")
    assert (0, 8, EdgeKind.CALL.value) in _edges(graph)


@needs_as
def test_exits() -> None:
    graph = _graph("beqlr\n bnectr\n b far\n rfi\n nop")
    kinds = [leaving.kind for block in graph.blocks.values() for leaving in block.exits]
    assert kinds == [ExitKind.RETURN, ExitKind.INDIRECT, ExitKind.TAIL, ExitKind.RFI, ExitKind.OFF_END]


@needs_as
def test_orphans_are_what_no_edge_reaches() -> None:
    graph = _graph("bctr\n li r3,1\n blr\n li r3,2\n blr")
    assert [block.start - BASE for block in graph.unreached] == [4, 12]


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=60))
def test_any_words_make_a_graph(words: list[int]) -> None:
    graph = FlowGraph(words, BASE)
    covered = [i.address for block in graph.blocks.values() for i in block.instructions]
    assert covered == [BASE + 4 * n for n in range(len(words))]


def _functions(path: Path) -> tuple[int, np.ndarray, list[tuple[int, int]]]:
    """Return .text's address and words and the functions in it, by readelf."""
    listing = subprocess.run(["readelf", "-SW", path], capture_output=True, check=True, text=True).stdout
    fields = next(line.split("]", 1)[1].split() for line in listing.splitlines() if " .text " in line)
    address, offset, size = (int(field, 16) for field in fields[2:5])
    words = np.frombuffer(path.read_bytes()[offset : offset + size], ">u4").astype(np.uint32)
    listing = subprocess.run(["readelf", "-sW", path], capture_output=True, check=True, text=True).stdout
    found: dict[int, int] = {}
    for line in listing.splitlines():
        columns = line.split()
        if len(columns) > 4 and columns[3] == "FUNC":
            start, length = int(columns[1], 16), int(columns[2], 0)
            if address <= start and start + length <= address + size and length and not length % 4:
                found[start] = max(length, found.get(start, 0))
    apart: list[tuple[int, int]] = []
    for start, length in sorted(found.items()):
        if not apart or start >= sum(apart[-1]):
            apart.append((start, length))
    return address, words, apart


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_whole_image_figures_are_the_sums_over_its_functions() -> None:
    path = Path("/usr/powerpc-linux-gnu/lib/libc.so.6")
    if not path.exists():
        pytest.skip("libc6-powerpc-cross is not installed")
    address, words, functions = _functions(path)
    assert len(functions) > 1000
    figures = analyze([(address, words)], functions)
    graphs = [
        FlowGraph(words[(start - address) // 4 : (start - address + size) // 4], start)
        for start, size in functions
    ]
    assert figures.functions == len(functions)
    assert figures.instructions == len(words)
    assert figures.blocks == sum(len(graph.blocks) for graph in graphs)
    assert figures.edges == sum(len(block.successors) for graph in graphs for block in graph.blocks.values())
