"""Print results: JSON lines for programs, tables for people; colour only on a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel

__all__ = [
    "Painted",
    "clock",
    "colours",
    "hexadecimal",
    "json_line",
    "painted",
    "printable",
    "table",
    "tell",
    "told_of",
    "with_symbols",
]

_GAP = "  "  # between columns
_ADDRESSES = {"address", "site", "nearest", "springboard", "source", "target", "end", "at", "mismatched"}


def hexadecimal(address: int | None) -> str:
    """Return an address for people."""
    return "-" if address is None else f"0x{address:08x}"


def clock(seconds: float) -> str:
    """Return a time (seconds since 1970) as clocks here show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def printable(text: str, keep: str = "") -> str:
    """Return a text of which a terminal obeys nothing: control characters are escaped as Python does it.

    ``keep`` is left as it is, and so are bytes of names that are no UTF-8, unless they control 8-bit
    terminals.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code < 0xDCA0:  # how Python keeps a byte that is no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return character if 0xDCA0 <= code < 0xDD00 else character.encode("unicode_escape").decode()


class Painted(str):
    """What is printable already, colours included."""

    __slots__ = ()


def painted(text: str, colour: str | None) -> Painted:
    """Return a text made `printable`, where colours are shown in a ``colour`` (a number of SGR)."""
    text = printable(text)
    return Painted(f"\x1b[{colour}m{text}\x1b[0m" if colour and colours() else text)


def tell(*parts: str, sep: str = " ", keep: str = "", err: bool = False, flush: bool = False) -> None:
    """Print a line for people, to stderr with ``err``; all but what is `Painted` is made `printable`."""
    told = (part if isinstance(part, Painted) else printable(part, keep) for part in parts)
    print(*told, sep=sep, file=sys.stderr if err else sys.stdout, flush=flush)


def json_line(record: Mapping[str, Any]) -> None:
    """Print one object on a line of its own, at once."""
    text = json.dumps(record, ensure_ascii=False)
    if not text.isprintable():  # bytes of a file's name that are no UTF-8, or what terminals obey
        text = json.dumps(record).replace("\x7f", "\\u007f")
    print(text, flush=True)


def told_of(guest: Kernel, state: str, **more: object) -> dict[str, object]:
    """Return what is told to programs of a guest that was booted or attached to."""
    found = {"name": guest.name, "pid": guest.pid, "state": state, "kernel": str(guest.image.path), **more}
    return found if guest.unpatchable is None else {**found, "unpatchable": guest.unpatchable}


def with_symbols(record: Any, symbolize: Callable[[int], str]) -> Any:
    """Return a record with the symbol beside each address: ``symbol``, ``nearest_symbol`` and so on."""
    if isinstance(record, (list, tuple)):
        return [with_symbols(part, symbolize) for part in record]
    if not isinstance(record, Mapping):
        return record
    named: dict[str, Any] = {}
    for key, value in record.items():
        named[key] = with_symbols(value, symbolize)
        if key not in _ADDRESSES or isinstance(value, bool):
            continue
        beside = "symbol" if key in ("address", "site") else f"{key}_symbol"
        if isinstance(value, (list, tuple)):
            named.setdefault(f"{beside}s", [symbolize(address) for address in value])
        else:
            named.setdefault(beside, None if value is None else symbolize(value))
    return named


def colours() -> bool:
    """Tell whether to print in colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a heading; on a terminal cells are folded so that lines are no wider than it is."""
    cells = [list(columns), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > 1:
            widths[widths.index(max(widths))] -= 1
    before, after = ("\x1b[1m", "\x1b[0m") if colours() else ("", "")
    for row in cells:
        for line in _folded(row, widths):
            text = _GAP.join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()
            print(f"{before}{text}{after}")
        before = after = ""


def _folded(row: Sequence[str], widths: Sequence[int]) -> Iterable[Sequence[str]]:
    """Return the lines that a row takes."""
    if all(len(cell) <= width for cell, width in zip(row, widths, strict=True)):
        return [row]
    parts = (wrap(cell, width, break_on_hyphens=False) for cell, width in zip(row, widths, strict=True))
    return zip_longest(*parts, fillvalue="")
