"""Lines of source as places of probes: ``mem.c:120``, and the lines of a file that have code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage, Misuse
from kgdbpatch.image.line_table import LineTable
from kgdbpatch.image.near import close_names

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["SourceLine", "is_line", "line_places", "listed_lines"]

_LINE = re.compile(r"(?P<file>[\w./+*?-]+\.(?:c|h|S|s|cc|cpp|inc|rs)):(?P<line>[\d*?]+)")


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of source that has code; ``address`` is where a statement of it begins."""

    file: str
    line: int
    address: int
    symbol: str


def is_line(target: str) -> bool:
    """Tell whether a probe's target is a line of source."""
    return _LINE.fullmatch(target) is not None


def _table(image: Image) -> LineTable:
    try:
        return LineTable.of(image)
    except BadImage as error:
        raise Misuse(f"lines of source are not known of this kernel: {error}") from error


def line_places(image: Image, target: str) -> list[int]:
    """Return where statements of a line begin, in all copies of it; `Misuse` where it has no code."""
    match = _LINE.fullmatch(target)
    assert match is not None
    if not match["line"].isdigit() or set(match["file"]) & set("*?"):
        raise Misuse(f"'{target}' is no line: FILE:NUMBER; 'kgdbpatch trace NAME -l {target}' lists such")
    table, number = _table(image), int(match["line"])
    lines = table.lines(_file(table, match["file"]))
    if number not in lines:
        behind = next((line for line in lines if line > number), None)
        last = max(lines, default=None)
        hint = f"the last one that has is {last}" if behind is None else f"the next one that has is {behind}"
        raise Misuse(f"{target} has no code; {hint if lines else 'no line of that file has'}")
    return _own(image, lines[number])


def _file(table: LineTable, name: str) -> str:
    found = table.named(name)
    if len(found) > 1:
        raise Misuse(f"'{name}' may be {' or '.join(found[:6])}: name one of them")
    if not found:
        near = close_names(name, table.files) or close_names(name, sorted(table.base_names))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Misuse(f"no code of this kernel comes from a file '{name}'{hint}")
    return found[0]


def _own(image: Image, addresses: list[int]) -> list[int]:
    return [one for one in addresses if image.function_at(one) is not None] or addresses


def listed_lines(image: Image, pattern: str) -> Iterator[SourceLine]:
    """Yield the lines with code that a pattern names, ``mem.c:*``; `Misuse` where there is none."""
    match = _LINE.fullmatch(pattern)
    assert match is not None
    table = _table(image)
    files = [one for one in table.files if _is_like(one, match["file"])]
    if not files:
        files = [_file(table, match["file"])]
    some = False
    for file in sorted(files):
        for line, addresses in table.lines(file).items():
            if fnmatchcase(str(line), match["line"]):
                some = True
                for address in addresses:
                    yield SourceLine(file, line, address, image.symbolize(address))
    if not some:
        raise Misuse(f"no line with code is like '{pattern}'")


def _is_like(file: str, pattern: str) -> bool:
    return fnmatchcase(file, pattern) or fnmatchcase(file, f"*/{pattern}")
