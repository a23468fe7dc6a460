"""Stacks that were seen, added up: as lines that flame graph tools take, and as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from kgdbpatch.profiles.rows import StackRow
from kgdbpatch.results import FrameRow

__all__ = ["folded_lines", "stack_of", "stack_rows"]

Stack = tuple[str, ...]

_NOWHERE = "[unknown]"


def _name(frame: FrameRow) -> str:
    """Return what a frame is called: its function, without the place in it."""
    if frame.kind == "process":
        return "[process]"
    function, bracket, module = frame.symbol.partition(" [")
    return function.partition("+0x")[0] + bracket + module


def stack_of(frames: Sequence[FrameRow], thread: str | None) -> Stack:
    """Return a stack by its names, the outermost first, below the name of the thread."""
    names = [_name(frame) for frame in reversed(frames)] or [_NOWHERE]
    return (thread, *names) if thread is not None else tuple(names)


def stack_rows(stacks: Counter[Stack]) -> list[StackRow]:
    """Return a row for each stack, those that were seen most first."""
    total = stacks.total()
    found = [StackRow(stack, count, round(count / total, 4)) for stack, count in stacks.items()]
    return sorted(found, key=lambda row: (-row.count, row.stack))


def folded_lines(rows: Iterable[StackRow]) -> Iterator[str]:
    """Yield a line for each stack: names from the outermost on, how often it was seen.

    >>> print(*folded_lines([StackRow(("init", "main", "f;g"), 12, 1.0)]))
    init;main;f:g 12
    """
    for row in rows:
        names = (" ".join(name.replace(";", ":").split()) for name in row.stack)
        yield f"{';'.join(names)} {row.count}"
