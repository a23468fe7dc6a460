"""Print results: JSON lines for programs, tables for people; colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

__all__ = ["colours", "hexadecimal", "json_line", "table", "with_symbols"]

_ADDRESSES = {"address", "site", "nearest", "springboard", "source", "target", "end", "at", "mismatched"}


def hexadecimal(address: int | None) -> str:
    """Return an address for people."""
    return "-" if address is None else f"0x{address:08x}"


def json_line(record: Mapping[str, Any]) -> None:
    """Print one object on a line of its own, at once."""
    text = json.dumps(record, ensure_ascii=False)
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(record)  # bytes of a file's name that are no UTF-8: JSON can only escape them
    print(text, flush=True)


def with_symbols(record: Any, symbolize: Callable[[int], str]) -> Any:
    """Return a record with the symbol beside each address in it.

    It is called ``symbol`` for ``address`` and ``site``, otherwise ``nearest_symbol`` and so on.
    """
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
    """Print rows under a heading: on a terminal as wide as it is, aligned columns elsewhere."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        folded = [Column(column, overflow="fold") for column in columns]  # nothing is cut off
        picture = Table(*folded, box=None, header_style="bold", pad_edge=False)
        for row in cells:
            picture.add_row(*(Text(cell) for cell in row))
        Console(highlight=False, color_system="auto" if colours() else None).print(picture)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in [list(columns), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
