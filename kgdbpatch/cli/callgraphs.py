"""The command that shows the call graph of a kernel, or what is around a function of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.drawing import Line, Node, show, thickness
from kgdbpatch.cli.graphs import AsDot, AsSvg, Everything, Most
from kgdbpatch.cli.options import AsJson, ImageOrName, function_at
from kgdbpatch.cli.output import hexadecimal, json_line, painted, tell, with_symbols
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse
from kgdbpatch.profiles.collapse import joined

if TYPE_CHECKING:
    from kgdbpatch.analysis.call_graph import Call, CallGraph, Neighbour
    from kgdbpatch.image import Image

__all__ = ["callgraph"]

_COLOURS = {"tail": "32", "address": "90"}
_SEVERAL = 20  # places: a call from so many is drawn thickest


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
    depth: Annotated[
        int, Option("--depth", metavar="N", min=1, help="With FUNC: callers and callees over so many calls.")
    ] = 1,
    most: Most = 60,
    everything: Everything = False,
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
      kgdbpatch callgraph linux udp_sendmsg --depth 3 --svg > around.svg
      kgdbpatch callgraph ./vmlinux --json
    """
    from kgdbpatch.kernel import analyses, catalog

    if (source is None) != (target is None) or (function and source):
        raise Misuse("give a function, or --from and --to, or nothing")
    if depth > 1 and function is None:
        raise Misuse("--depth is for the neighbours of a function: name it")
    with progress(f"analysing {image}"):
        loaded = catalog.open_image(image)
        named = function or source
        part = loaded if named is None else loaded.part_at(loaded.resolve(named))
        graph = analyses.call_graph(part)
    around: Mapping[int, Neighbour] = {}
    calls, functions = list(graph.calls), [*graph.functions, *graph.objects]
    if source is not None and target is not None:
        calls = _chain(loaded, graph, source, target)
    elif function is not None:
        place = loaded.resolve(function)
        here = place if place in graph.objects else function_at(loaded, function).address
        calls, around = graph.around(here, depth)
        functions = sorted(around)
    elif source is not None:
        functions = sorted({place for call in calls for place in (call.source, call.target)})
    if as_json:
        data = set(graph.objects)
        nodes: list[dict[str, Any]] = [
            {"address": at, "name": loaded.symbolize(at), "leaf": graph.is_leaf(at), "data": at in data}
            for at in functions
        ]
        for at, node in zip(functions, nodes, strict=True) if around else ():
            node["level"] = around[at].level
        edges = [
            {"source": one.source, "target": one.target, "kind": one.kind.value, "places": one.places}
            for one in calls
        ]
        json_line(with_symbols({"nodes": nodes, "edges": edges}, loaded.symbolize))
    elif as_dot or as_svg:
        groups = {} if everything or len(functions) <= most else _far(calls, around, most)
        _draw(loaded, functions, calls, around, groups, as_svg=as_svg)
    else:
        for call in calls:
            kind = call.kind.value
            names = f"{loaded.symbolize(call.source)} -> {loaded.symbolize(call.target)}"
            often = f"  ({call.places} places)" if call.places > 1 else ""
            tell(
                f"{hexadecimal(call.source)} ",
                painted(f"{kind:<8}", _COLOURS.get(kind)),
                names + often,
                sep="",
            )


def _far(calls: Sequence[Call], around: Mapping[int, Neighbour], most: int) -> dict[int, list[int]]:
    """Return what of a function's surroundings is drawn together: by the shown one that it was found through.

    Callers and callees have their turns, so that many of one side leave room for the other.
    """
    places: dict[int, int] = {}
    for call in calls:
        for end in (call.source, call.target):
            places[end] = max(call.places, places.get(end, 0))
    sides = [
        sorted(
            (at for at, one in around.items() if one.level * step > 0),
            key=lambda at: (abs(around[at].level), -places.get(at, 0), at),
        )
        for step in (-1, 1)
    ]
    turns = [(turn, number, at) for number, side in enumerate(sides) for turn, at in enumerate(side)]
    shown = {at for at, one in around.items() if not one.level}
    shown |= {at for _, _, at in sorted(turns)[: max(most - 1, 0)]}
    found: dict[tuple[int, bool], list[int]] = {}
    for at, one in around.items():
        if at not in shown:
            through = one.through
            while through not in shown:
                through = around[through].through
            found.setdefault((through, one.level > 0), []).append(at)
    return {min(group): group for group in found.values()}


def _draw(
    image: Image,
    functions: Sequence[int],
    calls: Sequence[Call],
    around: Mapping[int, Neighbour],
    groups: Mapping[int, Sequence[int]],
    *,
    as_svg: bool,
) -> None:
    hidden = {at for group in groups.values() for at in group}
    nodes = {
        at: Node(image.symbolize(at), "#fdd06b" if around and not around[at].level else None)
        for at in functions
        if at not in hidden
    }
    for first, group in groups.items():
        what = "callers" if around[first].level < 0 else "callees"
        nodes[first] = Node(f"{len(group)} more {what if len(group) > 1 else what[:-1]}", several=True)
    edges = [(one.source, one.target, one.kind.value, one.places) for one in calls]
    lines = [
        Line(
            source,
            target,
            kind,
            kind if (many or 0) < 2 else f"{kind} ×{many}",
            thickness((many or 1) - 1, _SEVERAL),
        )
        for source, target, kind, many in joined(edges, groups)
    ]
    left = f"{len(nodes) - len(groups)} of {len(functions)} shown, the nearest; --all shows the others\n"
    show(image.path.name, nodes, lines, title=left if groups else "", as_svg=as_svg)


def _chain(image: Image, graph: CallGraph, source: str, target: str) -> list[Call]:
    begin, end = function_at(image, source), function_at(image, target)
    chain = graph.chain(begin.address, end.address) or graph.chain(begin.address, end.address, addresses=True)
    if chain is None:
        raise Misuse(f"no chain of calls leads from {begin.name} to {end.name}")
    return chain
