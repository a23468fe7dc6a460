"""Write graphs in graphviz's language, and have ``dot`` draw them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping

from kgdbpatch.errors import Misuse

__all__ = ["dot", "svg"]

_STYLES = {
    "fall": 'color="gray40"',
    "taken": 'color="forestgreen"',
    "table": 'color="purple"',
    "hidden": 'color="red" style="dashed"',
    "call": 'color="black"',
    "tail": 'color="forestgreen"',
    "address": 'color="gray60" style="dashed"',
}


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\l") + '"'


def dot(name: str, nodes: Mapping[int, str], edges: Iterable[tuple[int, int, str]]) -> str:
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


def svg(text: str) -> str:
    """Have graphviz draw a graph; raise `Misuse` where it is not installed."""
    if shutil.which("dot") is None:
        raise Misuse("graphviz's 'dot' is not installed: apt-get install graphviz (or use --dot)")
    done = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Misuse(f"graphviz's 'dot' ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
