"""The picture of a function's flow graph: its blocks, the cold ones of a big one drawn together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kgdbpatch.cli.drawing import Line, Node, heat, show, thickness
from kgdbpatch.profiles.block_counts import BlockCounts, edge_counts
from kgdbpatch.profiles.collapse import distances, grouped, hottest_first, joined

if TYPE_CHECKING:
    from kgdbpatch.image import Function, Image
    from kgdbpatch.kernel.analyses import Flow

__all__ = ["draw", "instruction_text"]

_NEVER, _LESS, _UNKNOWN, _FAR = "never run", "less", "not counted", "far"


def instruction_text(image: Image, found: Flow, address: int) -> str:
    """Return an instruction of a function as it is written."""
    instruction = found.graph.at(address)
    data = found.graph.is_data(address)
    return f".long 0x{instruction.word:08x}" if data else instruction.written_for(image.model)


def draw(
    image: Image,
    function: Function,
    found: Flow,
    counts: BlockCounts | None,
    *,
    most: int | None,
    as_svg: bool,
) -> None:
    """Print the picture; beyond ``most`` blocks the others are drawn together (None: all are shown)."""
    blocks = found.graph.blocks
    big = most is not None and len(blocks) > most
    shown = _shown(found, counts, most) if big and most is not None else set(blocks)
    kinds = {start: _kind(counts, start) for start in blocks if start not in shown}
    pairs = [(edge.source, edge.target) for block in blocks.values() for edge in block.successors]
    groups = grouped(kinds, pairs, kinds.__getitem__)
    nodes = {
        start: Node(
            _block_text(image, found, counts, start, short=big),
            _fill(counts, [start]),
            dashed=counts is not None and start not in counts.hits,
        )
        for start in blocks
        if start in shown
    }
    for first, group in groups.items():
        text = _group_text(image, counts, group, kinds[first])
        nodes[first] = Node(text, _fill(counts, group), dashed=kinds[first] == _UNKNOWN, several=True)
    title = _title(function, found, counts, len(blocks) - len(shown))
    show(function.name, nodes, _lines(found, counts, groups), title=title, as_svg=as_svg)


def _shown(found: Flow, counts: BlockCounts | None, most: int) -> set[int]:
    """Return the blocks of a big graph that are shown: those run most, or those nearest to the entry."""
    blocks, entry = found.graph.blocks, found.graph.address
    if counts is None:
        onward = {start: [edge.target for edge in block.successors] for start, block in blocks.items()}
        away = distances(entry, onward)
        order = sorted(away, key=lambda start: (away[start], start))
    else:
        order = hottest_first(blocks, counts.hits)
    patched = set() if counts is None else {found.graph.block_at(site).start for site in counts.patches}
    return {entry, *patched, *order[:most]}


def _kind(counts: BlockCounts | None, start: int) -> str:
    if counts is None:
        return _FAR
    hits = counts.hits.get(start)
    return _UNKNOWN if hits is None else _LESS if hits else _NEVER


def _fill(counts: BlockCounts | None, group: Iterable[int]) -> str | None:
    known = [] if counts is None else [counts.hits[start] for start in group if start in counts.hits]
    return None if counts is None or not known else heat(max(known), counts.most)


def _group_text(image: Image, counts: BlockCounts | None, group: Sequence[int], kind: str) -> str:
    many = "1 block" if len(group) == 1 else f"{len(group)} blocks"
    what = {_NEVER: "never run", _UNKNOWN: "not counted", _FAR: "far from the entry"}.get(kind)
    if what is None and counts is not None:
        highest = max(counts.hits[start] for start in group)
        what = f"run {highest:,} times" + (" at most" if len(group) > 1 else "")
    places = [image.symbolize(start) for start in (group[0], group[-1])]
    return f"{many}, {what}\n{' … '.join(dict.fromkeys(places))}\n"


def _block_text(image: Image, found: Flow, counts: BlockCounts | None, start: int, *, short: bool) -> str:
    block = found.graph.blocks[start]
    told = f"{len(found.live_in[start])} live" if not found.graph.is_data(start) else "data"
    if counts is not None and not (found.graph.is_data(start) and start in counts.not_counted):
        told += f", {counts.text(start)}"
    lines = [f"{image.symbolize(start)}  {told}"]
    patches = {} if counts is None else counts.patches
    addresses = range(start, block.end, 4)
    for address in addresses:
        here = "".join(f"  <- patch {number}" for number in patches.get(address, ()))
        if here or not short or len(addresses) <= 3 or address in (start, block.end - 4):
            text = instruction_text(image, found, address)
            lines.append(f"{address:08x}  {text}{_callee(image, found, address)}{here}")
        elif not lines[-1].startswith("…"):
            lines.append("…")
    return "\n".join(lines) + "\n"


def _callee(image: Image, found: Flow, address: int) -> str:
    """Return the name of what an instruction calls or jumps to outside the function."""
    target = found.graph.at(address).target
    outside = target is not None and target not in found.graph and not found.graph.is_data(address)
    return f" <{image.symbolize(target)}>" if outside and target is not None else ""


def _lines(found: Flow, counts: BlockCounts | None, groups: dict[int, list[int]]) -> list[Line]:
    blocks = found.graph.blocks
    known = {} if counts is None else edge_counts(blocks, counts.hits, found.entered)
    edges = [
        (edge.source, edge.target, edge.kind.value, known.get(edge))
        for block in blocks.values()
        for edge in block.successors
    ]
    most = counts.most if counts is not None else 0
    return [
        Line(source, target, kind, kind if not count else f"{kind} {count:,}", thickness(count, most))
        for source, target, kind, count in joined(edges, groups)
    ]


def _title(function: Function, found: Flow, counts: BlockCounts | None, left: int) -> str:
    """Return what stands above the picture; nothing where all is shown as it is in the file."""
    total = len(found.graph.blocks)
    told = []
    if counts is not None:
        ran = sum(1 for hits in counts.hits.values() if hits)
        told.append(f"{ran} of {total} blocks run in {counts.seconds:.1f} s, {counts.most:,} times at most")
        told += [f"{many} not counted by rule '{rule}'" for rule, many in counts.rules().items()]
    if left:
        which = "nearest to the entry" if counts is None else "that ran most"
        told.append(f"{total - left} of {total} blocks shown, those {which}; --all shows the others")
    return "".join(f"{line}\n" for line in ([f"{function.name}: {told[0]}", *told[1:]] if told else []))
