"""Commands that show graphs: cfg of a function, callgraph of a kernel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.options import AsJson, ImageOrName, function_at
from kgdbpatch.cli.output import hexadecimal, json_line, painted, printable, tell, with_symbols
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.analysis.call_graph import Call, CallGraph
    from kgdbpatch.image import Image
    from kgdbpatch.isa.decode import Instruction
    from kgdbpatch.kernel.analyses import Flow

__all__ = ["callgraph", "cfg"]

AsDot = Annotated[bool, Option("--dot", help="Print it in graphviz's language.")]
AsSvg = Annotated[bool, Option("--svg", help="Print a drawing (needs graphviz).")]
_COLOURS = {"taken": "32", "table": "35", "hidden": "31", "tail": "32", "address": "90", "fall": "90"}
_STYLES = {
    "fall": 'color="gray40"',
    "taken": 'color="forestgreen"',
    "table": 'color="purple"',
    "hidden": 'color="red" style="dashed"',
    "call": 'color="black"',
    "tail": 'color="forestgreen"',
    "address": 'color="gray60" style="dashed"',
}


def _emit(name: str, nodes: dict[int, str], edges: list[tuple[int, int, str]], as_svg: bool) -> None:
    text = _dot(name, nodes, edges)
    print(_svg(text) if as_svg else text)


def _quote(text: str) -> str:
    escaped = printable(text, "\n").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\l") + '"'


def _dot(name: str, nodes: Mapping[int, str], edges: Iterable[tuple[int, int, str]]) -> str:
    """Return the text of a graph; a node's text may have many lines, each set to the left."""
    lines = [
        f"digraph {_quote(name)} {{",
        '  node [shape=box fontname="monospace" fontsize=9];',
        '  edge [fontname="monospace" fontsize=8];',
    ]
    lines += [f"  n{number} [label={_quote(text)}];" for number, text in nodes.items()]
    for source, target, kind in edges:
        lines.append(f'  n{source} -> n{target} [label="{kind}" {_STYLES.get(kind, "")}];')
    return "\n".join([*lines, "}"])


def _svg(text: str) -> str:
    """Have graphviz draw a graph; raise `Misuse` where it is not installed."""
    if shutil.which("dot") is None:
        raise Misuse("graphviz's 'dot' is not installed: apt-get install graphviz (or use --dot)")
    done = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misuse(f"graphviz's 'dot' ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def cfg(
    image: ImageOrName,
    function: Annotated[
        str,
        Argument(metavar="FUNC", help="A function, or a place in one.", autocompletion=completion.functions),
    ],
    as_dot: AsDot = False,
    as_svg: AsSvg = False,
    as_json: AsJson = False,
) -> None:
    """Show the flow graph of a function: blocks, what is live before each, where control goes.

    \b
    Examples:
      kgdbpatch cfg ./vmlinux udp_sendmsg
      kgdbpatch cfg darwin run_netisr --svg > run_netisr.svg
    """
    from kgdbpatch.kernel import analyses, catalog

    with progress(f"analysing {image}"):
        loaded = catalog.open_image(image)
        chosen = function_at(loaded, function)
        found = analyses.flow(loaded, chosen)
    blocks = found.graph.blocks
    edges = [(e.source, e.target, e.kind.value) for block in blocks.values() for e in block.successors]
    if as_json:
        nodes_there = [_block(loaded, found, start) for start in blocks]
        json_line(with_symbols({"nodes": nodes_there, "edges": _edges(edges)}, loaded.symbolize))
    elif as_dot or as_svg:
        nodes = {
            start: f"{loaded.symbolize(start)}  {len(found.live_in[start])} live\n"
            + "".join(f"{i.address:08x}  {_text(loaded, found, i)}\n" for i in block.instructions)
            for start, block in blocks.items()
        }
        _emit(chosen.name, nodes, edges, as_svg)
    else:
        _print_flow(loaded, found)


def _text(image: Image, found: Flow, instruction: Instruction) -> str:
    data = found.graph.is_data(instruction.address)
    return f".long 0x{instruction.word:08x}" if data else instruction.written_for(image.model)


def _block(image: Image, found: Flow, start: int) -> dict[str, Any]:
    block = found.graph.blocks[start]
    return {
        "address": start,
        "end": block.end,
        "instructions": [{"address": i.address, "text": _text(image, found, i)} for i in block.instructions],
        "live": found.live_in[start],
        "data": found.graph.is_data(start),
        "exits": [{"kind": leaving.kind.value, "target": leaving.target} for leaving in block.exits],
    }


def _edges(edges: list[tuple[int, int, str]]) -> list[dict[str, Any]]:
    return [{"source": source, "target": target, "kind": kind} for source, target, kind in edges]


def _print_flow(image: Image, found: Flow) -> None:
    for start, block in found.graph.blocks.items():
        what = "data" if found.graph.is_data(start) else f"{len(found.live_in[start])} live"
        tell(painted(f"{image.symbolize(start)}:", "1"), what)
        for instruction in block.instructions:
            tell(f"  {instruction.address:08x}  {_text(image, found, instruction)}")
        for edge in block.successors:
            kind = edge.kind.value
            tell(painted(f"    {kind} -> {image.symbolize(edge.target)}", _COLOURS.get(kind)))
        for leaving in block.exits:
            place = f" -> {image.symbolize(leaving.target)}" if leaving.target is not None else ""
            tell(painted(f"    {leaving.kind.value}{place}", "33"))


def callgraph(
    image: ImageOrName,
    function: Annotated[
        str | None,
        Argument(
            metavar="[FUNC]",
            help="Only what leads to this function, or data, and from it.",
            autocompletion=completion.functions,
        ),
    ] = None,
    source: Annotated[str | None, Option("--from", metavar="FUNC", help="Where a chain begins.")] = None,
    target: Annotated[str | None, Option("--to", metavar="FUNC", help="Where it ends.")] = None,
    as_dot: AsDot = False,
    as_svg: AsSvg = False,
    as_json: AsJson = False,
) -> None:
    """Show who calls whom: all of a kernel, one function's neighbours, or a chain of calls.

    A dashed edge of kind address is no call: a function makes the address of another, or of a
    structure that holds some, or such a structure holds the function's address.

    \b
    Examples:
      kgdbpatch callgraph darwin run_netisr
      kgdbpatch callgraph darwin --from vm_fault --to hw_add_map
      kgdbpatch callgraph ./vmlinux --json
    """
    from kgdbpatch.kernel import analyses, catalog

    if (source is None) != (target is None) or (function and source):
        raise Misuse("give a function, or --from and --to, or nothing")
    with progress(f"analysing {image}"):
        loaded = catalog.open_image(image)
        named = function or source
        part = loaded if named is None else loaded.part_at(loaded.resolve(named))
        graph = analyses.call_graph(part)
    calls, functions = list(graph.calls), [*graph.functions, *graph.objects]
    if source is not None and target is not None:
        calls = _chain(loaded, graph, source, target)
    elif function is not None:
        place = loaded.resolve(function)
        here = place if place in graph.objects else function_at(loaded, function).address
        calls = [*graph.callers(here), *(call for call in graph.callees(here) if call.target != here)]
        functions = [here]
    if function is not None or source is not None:
        ends = {place for call in calls for place in (call.source, call.target)}
        functions = sorted(ends.union(functions if function else ()))
    edges = [(call.source, call.target, call.kind.value) for call in calls]
    if as_json:
        data = set(graph.objects)
        nodes = [
            {"address": at, "name": loaded.symbolize(at), "leaf": graph.is_leaf(at), "data": at in data}
            for at in functions
        ]
        json_line(with_symbols({"nodes": nodes, "edges": _edges(edges)}, loaded.symbolize))
    elif as_dot or as_svg:
        _emit(loaded.path.name, {place: loaded.symbolize(place) for place in functions}, edges, as_svg)
    else:
        for begin, end, kind in edges:
            names = f"{loaded.symbolize(begin)} -> {loaded.symbolize(end)}"
            tell(f"{hexadecimal(begin)} ", painted(f"{kind:<8}", _COLOURS.get(kind)), names, sep="")


def _chain(image: Image, graph: CallGraph, source: str, target: str) -> list[Call]:
    begin, end = function_at(image, source), function_at(image, target)
    chain = graph.chain(begin.address, end.address) or graph.chain(begin.address, end.address, addresses=True)
    if chain is None:
        raise Misuse(f"no chain of calls leads from {begin.name} to {end.name}")
    return chain
