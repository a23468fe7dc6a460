"""Draw graphs by graphviz: nodes in the colour of their heat, edges as thick as they are often taken."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kgdbpatch.cli.output import printable
from kgdbpatch.errors import Misuse

__all__ = ["Line", "Node", "heat", "show", "thickness"]

_STYLES = {
    "fall": 'color="gray40"',
    "taken": 'color="forestgreen"',
    "table": 'color="purple"',
    "hidden": 'color="red" style="dashed"',
    "call": 'color="black"',
    "tail": 'color="forestgreen"',
    "address": 'color="gray60" style="dashed"',
}
_COLD = "#e9eef2"
_WARM = ((255, 248, 214), (253, 208, 107), (244, 119, 74))  # black is read well on each
_THICKEST = 5.0  # points


@dataclass(frozen=True, slots=True)
class Node:
    """A box: its text, lines set to the left, what it is filled with, and whether it stands for several."""

    text: str
    fill: str | None = None
    dashed: bool = False
    several: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """An edge: its kind gives it its colour; ``label`` is what stands beside it, ``width`` in points."""

    source: int
    target: int
    kind: str
    label: str
    width: float = 1.0


def _share(count: int, most: int) -> float:
    """Return where a count is between 0 and the most, by its logarithm."""
    return min(math.log1p(count) / math.log1p(most), 1.0) if most else 0.0


def heat(hits: int, most: int) -> str:
    """Return the colour of what ran so often: grey where never, then from pale to orange, by logarithm."""
    if not hits:
        return _COLD
    place = _share(hits, most) * (len(_WARM) - 1)
    index = min(int(place), len(_WARM) - 2)
    part = place - index
    mixed = (round(a + (b - a) * part) for a, b in zip(_WARM[index], _WARM[index + 1], strict=True))
    return "#" + "".join(f"{one:02x}" for one in mixed)


def thickness(count: int | None, most: int) -> float:
    """Return how thick an edge is drawn that was taken so often, in points; thin where it is not known."""
    return 1.0 if not count else round(1 + (_THICKEST - 1) * _share(count, most), 1)


def show(name: str, nodes: Mapping[int, Node], lines: Iterable[Line], *, title: str, as_svg: bool) -> None:
    """Print a graph in graphviz's language, or drawn; ``title`` stands above it."""
    text = _dot(name, nodes, lines, title)
    print(_svg(text) if as_svg else text)


def _quote(text: str, end: str = "\\l") -> str:
    escaped = printable(text, "\n").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", end) + '"'


def _dot(name: str, nodes: Mapping[int, Node], lines: Iterable[Line], title: str) -> str:
    text = [
        f"digraph {_quote(name)} {{",
        '  node [shape=box fontname="monospace" fontsize=9 style=filled fillcolor=white];',
        '  edge [fontname="monospace" fontsize=8];',
    ]
    if title:
        text.append(
            f'  graph [labelloc=t labeljust=l fontname="monospace" fontsize=11 label={_quote(title)}];'
        )
    for number, node in nodes.items():
        more = f' fillcolor="{node.fill}"' if node.fill else ""
        more += ' style="filled,dashed"' if node.dashed else ""
        more += " shape=folder" if node.several else ""
        text.append(f"  n{number} [label={_quote(node.text)}{more}];")
    for line in lines:
        wide = f" penwidth={line.width}" if line.width != 1.0 else ""
        style = _STYLES.get(line.kind, "")
        text.append(f"  n{line.source} -> n{line.target} [label={_quote(line.label, ' ')} {style}{wide}];")
    return "\n".join([*text, "}"])


def _svg(text: str) -> str:
    """Have graphviz draw a graph; raise `Misuse` where it is not installed."""
    if shutil.which("dot") is None:
        raise Misuse("graphviz's 'dot' is not installed: apt-get install graphviz (or use --dot)")
    done = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misuse(f"graphviz's 'dot' ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
