"""What is found out of a kernel's code, read from its file: counts, live registers, graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch import personality
from kgdbpatch.analysis import statistics
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.image import Function, Image
from kgdbpatch.isa.fields import Words
from kgdbpatch.kernel.remembered import argless, pointing_data
from kgdbpatch.patch.rewritten import untraced

if TYPE_CHECKING:  # on use: each command needs one of these
    from kgdbpatch.analysis.call_graph import CallGraph
    from kgdbpatch.analysis.cfg import FlowGraph
    from kgdbpatch.analysis.interprocedural import ProgramLiveness

__all__ = ["Flow", "analyze", "call_graph", "flow", "implicit_edges", "liveness", "rewritten_reads"]


_Parts = tuple[list[tuple[int, Words]], list[tuple[int, int]], list[tuple[int, bytes]]]


def _parts(image: Image) -> _Parts:
    """Return (address, words) of the code, (address, size) of the functions, (address, bytes) of all."""
    code = [(section.address, image.words(section)) for section in image.code_sections()]
    return code, image.functions.spans(), pointing_data(image)


def analyze(image: Image) -> statistics.Figures:
    """Count what is in all code of an image."""
    return statistics.analyze(*_parts(image), implicit_edges(image))


def liveness(image: Image) -> ProgramLiveness:
    """Analyse all code of an image; nothing of it is remembered."""
    from kgdbpatch.analysis.interprocedural import analyze_program

    code, functions, data = _parts(image)
    own, reads = personality.detect(image).rewritten(image), rewritten_reads(image)
    code = [(address, untraced(own, address, words)) for address, words in code]
    return analyze_program(
        code, functions, image.abi, data, implicit_edges(image), reads, image.model, argless(image)
    )


def call_graph(image: Image) -> CallGraph:
    """Return who calls whom in an image, data objects that hold functions included."""
    from kgdbpatch.analysis.call_graph import CallGraph

    found = liveness(image)
    return CallGraph(found.blocks, found.word_effects.defs, found.indirect.constants, _objects(image))


def _objects(image: Image) -> list[tuple[int, bytes]]:
    """Return (address, bytes) of the named data objects; one without a size reaches to the next."""
    objects: list[tuple[int, bytes]] = []
    places: dict[str, dict[int, int]] = {}
    for symbol in image.symbols:
        if symbol.kind == "object":
            sizes = places.setdefault(symbol.section, {})
            sizes[symbol.address] = max(symbol.size, sizes.get(symbol.address, 0))
    for section in image.sections:
        known = sorted(places.get(section.name, {}).items())
        ends = [address for address, _ in known[1:]] + [section.end]
        for (address, size), end in zip(known, ends[: len(known)], strict=True):
            start = address - section.address
            objects.append((address, section.data[start : start + (size or end - address)]))
    return objects


@dataclass(frozen=True, slots=True)
class Flow:
    """The flow graph of a function, with what is live before each of its blocks.

    ``entered`` are the blocks that control may come to from elsewhere than the function's own blocks.
    """

    graph: FlowGraph
    live_in: dict[int, tuple[str, ...]]
    entered: frozenset[int]


def flow(image: Image, function: Function) -> Flow:
    """Return the flow graph of a function; jump tables and calls that do not return are known."""
    from kgdbpatch.analysis.cfg import FlowGraph
    from kgdbpatch.analysis.regset import to_mask
    from kgdbpatch.isa.registers import names

    image = image.part_at(function.address)
    found = liveness(image)
    blocks, program = found.blocks, found.program
    final = (blocks.callee >= 0) & found.summaries.no_return[blocks.callee]
    graph = FlowGraph(
        np.frombuffer(image.read(function.address, function.size // 4 * 4), ">u4").astype(np.uint32),
        function.address,
        implicit_edges(image).all,
        found.indirect.tables,
        frozenset(program.address[blocks.last[final]].tolist()),
        _data_words(found, function),
        image.model,
    )
    before = found.solve().before
    places = {int(program.address[first]): number for number, first in enumerate(blocks.first.tolist())}
    live_in = {
        start: () if graph.is_data(start) else tuple(names(to_mask(int(before[places[start]]))))
        for start in graph.blocks
    }
    return Flow(graph, live_in, frozenset({function.address, *_entered(found, function)}))


def _entered(found: ProgramLiveness, function: Function) -> list[int]:
    """Return the blocks of a function to which an edge leads from another function's code."""
    program, blocks = found.program, found.blocks
    sources, targets = blocks.edges
    at, origin = program.address[blocks.first[targets]], program.address[blocks.first[sources]]
    first, end = function.address, function.address + function.size
    inside, outside = (at >= first) & (at < end), (origin < first) | (origin >= end)
    entered: list[int] = at[inside & outside].tolist()
    return entered


def _data_words(found: ProgramLiveness, function: Function) -> frozenset[int]:
    """Return the words of a function that are entries of jump tables, or that no way leads to."""
    from kgdbpatch.analysis.reach import Reach

    program, of_word = found.program, found.blocks.of_word
    words = range(function.address, function.address + function.size, 4)
    inside = [at for at in words if (word := program.at(at)) >= 0 and program.function[word] >= 0]
    data = (Reach.TABLE, Reach.NEVER)
    return frozenset(at for at in inside if found.reach[of_word[program.at(at)]] in data)


def implicit_edges(image: Image) -> ImplicitEdges:
    """Return where control may go in a kernel without a branch that says so."""
    system = personality.detect(image)
    return ImplicitEdges(system.exceptional_edges(image), system.rewritten_edges(image))


def rewritten_reads(image: Image) -> Mapping[int, int]:
    """Return which registers words may read when the kernel has rewritten them."""
    return personality.detect(image).rewritten_reads(image)
