"""What a run is told as: rows of functions, of files and of source lines; what differs from another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.coverage.lines import LineTable
from kgdbpatch.coverage.run import Run
from kgdbpatch.errors import Misuse

__all__ = [
    "NOT_RUN",
    "NOT_WATCHED",
    "RAN",
    "ChangedRow",
    "FileRow",
    "FunctionRow",
    "LineRow",
    "Span",
    "changed_rows",
    "file_rows",
    "function_rows",
    "line_rows",
    "place_of",
    "share",
]

RAN, NOT_RUN, NOT_WATCHED = "run", "not run", "not watched"
Span = tuple[int, int, str]  # a function's first address, the one behind its last, its name


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """Of a function's ``blocks`` so many are ``watched``, and of these so many ``ran``.

    ``hits`` is how often it was entered, 1 at most unless they are counted; None where that is not watched.
    """

    function: str
    address: int
    blocks: int
    watched: int
    ran: int
    hits: int | None
    state: str


@dataclass(frozen=True, slots=True)
class LineRow:
    """A source line: ``state`` is ``run``, ``not run`` or ``not watched``, ``hits`` None for the last."""

    file: str
    line: int
    hits: int | None
    state: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """How many lines of a source file have code, by their state."""

    file: str
    lines: int
    ran: int
    not_run: int
    not_watched: int


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A function of which other blocks ran than in the other run: how many ``new``, how many no longer."""

    function: str
    address: int
    new: int
    gone: int


def share(ran: int, watched: int) -> str:
    """Return a share as people read it; nothing where nothing is watched."""
    return "-" if not watched else f"{100 * ran / watched:.1f}%"


def _state(watched: int, ran: int) -> str:
    return RAN if ran else NOT_RUN if watched else NOT_WATCHED


def _owners(run: Run, functions: Sequence[Span]) -> npt.NDArray[np.int64]:
    """Return the number of the function that each block is of, -1 for none."""
    starts = np.array([start for start, _, _ in functions], np.int64)
    ends = np.array([end for _, end, _ in functions], np.int64)
    if not starts.size:
        return np.full(len(run.start), -1, np.int64)
    owner = np.searchsorted(starts, run.start, "right") - 1
    inside = (owner >= 0) & (run.start < ends[np.maximum(owner, 0)])
    return np.where(inside, owner, -1)


def function_rows(run: Run, functions: Sequence[Span]) -> list[FunctionRow]:
    """Return the functions that have blocks, in the order of addresses; ``functions`` as well."""
    owner = _owners(run, functions)
    counts = [
        np.bincount(owner[chosen & (owner >= 0)], minlength=len(functions))
        for chosen in (np.ones(len(owner), np.bool_), run.watched, run.ran)
    ]
    entered = {int(at): number for number, at in enumerate(run.start.tolist())}
    rows = []
    for number in np.flatnonzero(counts[0]).tolist():
        start, _, name = functions[number]
        blocks, watched, ran = (int(count[number]) for count in counts)
        first = entered.get(start)
        hits = int(run.hits[first]) if first is not None and not run.reason[first] else None
        rows.append(FunctionRow(name, start, blocks, watched, ran, hits, _state(watched, ran)))
    return rows


def line_rows(run: Run, table: LineTable) -> list[LineRow]:
    """Return the source lines that have code in a block, by file and number; inlined ones, too."""
    rows = np.unique(np.concatenate([table.address, run.start, run.end.astype(np.int64) + 4]))
    line = np.searchsorted(table.address, rows, "right") - 1
    block = np.searchsorted(run.start, rows, "right") - 1
    known = (line >= 0) & (block >= 0)
    line, block, rows = line[known], block[known], rows[known]
    inside = (rows <= run.end[block]) & (table.line[line] > 0)
    line, block = line[inside], block[inside]
    key = table.file[line].astype(np.int64) << 32 | table.line[line]
    keys, place = np.unique(key, return_inverse=True)
    watched, hits = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.int64)
    np.logical_or.at(watched, place, run.watched[block])
    np.maximum.at(hits, place, np.where(run.watched[block], run.hits[block], 0))
    found = []
    for one, seen, count in zip(keys.tolist(), watched.tolist(), hits.tolist(), strict=True):
        state = _state(seen, count)
        found.append(LineRow(table.files[one >> 32], one & 0xFFFF_FFFF, count if seen else None, state))
    return sorted(found, key=lambda row: (row.file, row.line))


def place_of(table: LineTable, address: int) -> tuple[str, int] | None:
    """Return the file and line of an address, or None."""
    index = int(np.searchsorted(table.address, address, "right")) - 1
    if index < 0 or not table.line[index]:
        return None
    return table.files[table.file[index]], int(table.line[index])


def file_rows(lines: Sequence[LineRow]) -> list[FileRow]:
    """Return the files that lines, which are sorted, are of."""
    found: dict[str, dict[str, int]] = {}
    for row in lines:
        counts = found.setdefault(row.file, {RAN: 0, NOT_RUN: 0, NOT_WATCHED: 0})
        counts[row.state] += 1
    return [
        FileRow(file, sum(counts.values()), counts[RAN], counts[NOT_RUN], counts[NOT_WATCHED])
        for file, counts in found.items()
    ]


def changed_rows(run: Run, before: Run, functions: Sequence[Span]) -> list[ChangedRow]:
    """Return the functions that differ from the run ``before``; raise `Misuse` for another kernel's."""
    if run.image != before.image or not np.array_equal(run.start, before.start):
        raise Misuse("the coverage to compare with is of another kernel")
    both = run.watched & before.watched
    owner = _owners(run, functions)
    new, gone = both & run.ran & ~before.ran, both & before.ran & ~run.ran
    counts = [np.bincount(owner[chosen & (owner >= 0)], minlength=len(functions)) for chosen in (new, gone)]
    return [
        ChangedRow(functions[number][2], functions[number][0], int(counts[0][number]), int(counts[1][number]))
        for number in np.flatnonzero(counts[0] + counts[1]).tolist()
    ]
