"""The command that shows the flow graph of a function, with how often its blocks ran."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.flow_picture import draw, instruction_text
from kgdbpatch.cli.options import AsJson, ImageFile, ImageOrName, Wait, attach, function_at
from kgdbpatch.cli.output import json_line, painted, tell, with_symbols
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse
from kgdbpatch.profiles.block_counts import BlockCounts, edge_counts

if TYPE_CHECKING:
    from kgdbpatch.image import Function, Image
    from kgdbpatch.kernel.analyses import Flow

__all__ = ["AsDot", "AsSvg", "Everything", "Most", "cfg"]

AsDot = Annotated[bool, Option("--dot", help="Print it in graphviz's language.")]
AsSvg = Annotated[bool, Option("--svg", help="Print a drawing (needs graphviz).")]
Most = Annotated[
    int,
    Option("--most", metavar="N", min=1, help="With --dot and --svg: draw what is beyond together."),
]
Everything = Annotated[bool, Option("--all", help="With --dot and --svg: draw each by itself.")]
_COLOURS = {"taken": "32", "table": "35", "hidden": "31", "tail": "32", "address": "90", "fall": "90"}
_SECONDS = 1.0


def cfg(
    image: ImageOrName,
    function: Annotated[
        str,
        Argument(metavar="FUNC", help="A function, or a place in one.", autocompletion=completion.functions),
    ],
    hits: Annotated[
        bool, Option("--hits", help="Count for a while how often each block runs, in a running guest.")
    ] = False,
    seconds: Annotated[
        float | None,
        Option(
            "--seconds", metavar="S", min=0, help="How long to count: 1 second if not told, or to Ctrl-C."
        ),
    ] = None,
    most: Most = 60,
    everything: Everything = False,
    file: ImageFile = None,
    wait: Wait = 10.0,
    as_dot: AsDot = False,
    as_svg: AsSvg = False,
    as_json: AsJson = False,
) -> None:
    """Show the flow graph of a function: blocks, what is live before each, where control goes.

    With --hits each block of it is counted in the running guest, for 7 instructions a block; at the end, or
    when this command is ended, the counters are taken out. Blocks where a rule forbids a counter are told as
    not counted. An edge has a count where those of the blocks leave no doubt. Patches that are in the
    function are named.

    In a picture of more than --most blocks those that never ran are drawn together, and so are those beyond
    the N that ran most; without --hits, those beyond the N that the fewest edges lead to from the entry.

    \b
    Examples:
      kgdbpatch cfg ./vmlinux udp_sendmsg
      kgdbpatch cfg darwin run_netisr --svg > run_netisr.svg
      kgdbpatch cfg linux udp_sendmsg --hits --seconds 5 --svg > hot.svg
    """
    counts = None
    if hits:
        loaded, chosen, found, counts = _counted(image, function, seconds, file, wait)
    elif seconds is not None or file is not None:
        raise Misuse("--seconds and --image are for --hits: it counts in a running guest")
    else:
        from kgdbpatch.kernel import analyses, catalog

        with progress(f"analysing {image}"):
            loaded = catalog.open_image(image)
            chosen = function_at(loaded, function)
            found = analyses.flow(loaded, chosen)
    if as_json:
        json_line(with_symbols(_as_json(loaded, found, counts), loaded.symbolize))
    elif as_dot or as_svg:
        draw(loaded, chosen, found, counts, most=None if everything else most, as_svg=as_svg)
    else:
        _print_flow(loaded, found, counts)


def _counted(
    name: str, function: str, seconds: float | None, file: ImageFile, wait: float
) -> tuple[Image, Function, Flow, BlockCounts]:
    """Count the blocks of a function of a running guest for so many seconds."""
    from kgdbpatch.kernel.block_counter import BlockCounter

    with attach(name, file, wait) as kernel, ended_kindly():
        with progress(f"analysing {function}"):
            counter = BlockCounter(kernel, function)
        try:
            with progress("putting the counters in") as say:
                counter.start(say)
            with suppress(KeyboardInterrupt):
                counter.wait(_SECONDS if seconds is None else seconds)
            counts = counter.counts()
        finally:
            counter.stop()
        return kernel.image, counter.function, counter.flow, counts


def _as_json(image: Image, found: Flow, counts: BlockCounts | None) -> dict[str, Any]:
    blocks = found.graph.blocks
    known = {} if counts is None else edge_counts(blocks, counts.hits, found.entered)
    nodes, edges = [_block(image, found, start) for start in blocks], list[dict[str, Any]]()
    for block in blocks.values():
        for edge in block.successors:
            row = {"source": edge.source, "target": edge.target, "kind": edge.kind.value}
            edges.append(row if counts is None else {**row, "hits": known.get(edge)})
    if counts is None:
        return {"nodes": nodes, "edges": edges}
    for node in nodes:
        start = node["address"]
        node["hits"], node["not_counted"] = counts.hits.get(start), counts.not_counted.get(start)
        node["patches"] = [one for at in range(start, node["end"], 4) for one in counts.patches.get(at, ())]
    return {"nodes": nodes, "edges": edges, "seconds": round(counts.seconds, 3)}


def _block(image: Image, found: Flow, start: int) -> dict[str, Any]:
    block = found.graph.blocks[start]
    return {
        "address": start,
        "end": block.end,
        "instructions": [
            {"address": i.address, "text": instruction_text(image, found, i.address)}
            for i in block.instructions
        ],
        "live": found.live_in[start],
        "data": found.graph.is_data(start),
        "exits": [{"kind": leaving.kind.value, "target": leaving.target} for leaving in block.exits],
    }


def _print_flow(image: Image, found: Flow, counts: BlockCounts | None) -> None:
    blocks = found.graph.blocks
    known = {} if counts is None else edge_counts(blocks, counts.hits, found.entered)
    patches = {} if counts is None else counts.patches
    for start, block in blocks.items():
        what = "data" if found.graph.is_data(start) else f"{len(found.live_in[start])} live"
        if counts is not None:
            what += f", {counts.text(start)}"
        tell(painted(f"{image.symbolize(start)}:", "1"), what)
        for address in range(start, block.end, 4):
            here = "".join(f"  <- patch {number}" for number in patches.get(address, ()))
            tell(f"  {address:08x}  {instruction_text(image, found, address)}{here}")
        for edge in block.successors:
            kind = edge.kind.value
            often = f"  {known[edge]:,}" if edge in known else ""
            tell(painted(f"    {kind} -> {image.symbolize(edge.target)}{often}", _COLOURS.get(kind)))
        for leaving in block.exits:
            place = f" -> {image.symbolize(leaving.target)}" if leaving.target is not None else ""
            tell(painted(f"    {leaving.kind.value}{place}", "33"))
