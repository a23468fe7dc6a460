"""A run in the format of lcov's tracefiles (geninfo(1)), as genhtml and editors read it.

Lines that are not watched are left out: the format has no word for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

from kgdbpatch.coverage.lines import LineTable
from kgdbpatch.coverage.report import FunctionRow, LineRow, place_of

__all__ = ["tracefile"]


def tracefile(
    lines: Sequence[LineRow], functions: Sequence[FunctionRow], table: LineTable, root: str, name: str = ""
) -> Iterator[str]:
    """Yield the lines of a tracefile; files lie in ``root``."""
    defined: dict[str, list[tuple[int, FunctionRow]]] = {}
    for function in functions:
        place = place_of(table, function.address)
        if place is not None and function.hits is not None:
            defined.setdefault(place[0], []).append((place[1], function))
    for file, rows in groupby(lines, key=lambda row: row.file):
        watched = [row for row in rows if row.hits is not None]
        if not watched:
            continue
        own = sorted(defined.get(file, ()), key=lambda one: (one[0], one[1].function))
        yield f"TN:{name}"
        yield f"SF:{os.path.join(root, file)}"
        for line, function in own:
            yield f"FN:{line},{function.function}"
        for _, function in own:
            yield f"FNDA:{function.hits},{function.function}"
        yield f"FNF:{len(own)}"
        yield f"FNH:{sum(1 for _, function in own if function.hits)}"
        for row in watched:
            yield f"DA:{row.line},{row.hits}"
        yield f"LF:{len(watched)}"
        yield f"LH:{sum(1 for row in watched if row.hits)}"
        yield "end_of_record"
