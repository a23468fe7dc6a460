"""The command that shows, interval by interval, what a running kernel is busy with."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line, printable, table, tell
from kgdbpatch.cli.profiles import Seconds, left_out, nanoseconds
from kgdbpatch.cli.waiting import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from kgdbpatch.kernel.top import Top
    from kgdbpatch.profiles.rows import TopRow

__all__ = ["top"]

_USUAL = 20  # rows where no terminal tells how many
_BESIDE = 4  # lines of a terminal that are not rows


class Sort(StrEnum):
    """What rows are sorted by, and what is measured besides the calls."""

    CALLS = "calls"
    TIME = "time"
    BLOCKS = "blocks"


def top(
    name: Name,
    pattern: Annotated[
        str | None,
        Argument(
            metavar="[GLOB]",
            show_default=False,
            help="Only functions that are like it; else all of the kernel's.",
            autocompletion=completion.functions,
        ),
    ] = None,
    interval: Annotated[
        float, Option("--interval", metavar="S", min=0.1, help="Seconds from one table to the next.")
    ] = 1.0,
    once: Annotated[bool, Option("--once", help="Print one table, and end.")] = False,
    seconds: Seconds = None,
    sort: Annotated[
        Sort, Option("--sort", help="What the busiest functions are the busiest by.")
    ] = Sort.CALLS,
    rows: Annotated[
        int | None, Option("--rows", metavar="N", min=1, help="How many functions are shown.")
    ] = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show which functions of a running kernel are called most, live on a terminal.

    Every function is counted, exactly: seven to nine instructions more for a call. With --sort time the
    time from entry to return is measured as well, what it calls included (so recursion counts more than
    once), with --sort blocks the basic blocks that are executed: of the functions that GLOB names, or,
    without one, of the 128 that are called most. Rates are by the host's clock. At the end, or when this
    command is ended, all is taken out.

    \\b
    Examples:
      kgdbpatch top linux
      kgdbpatch top linux 'ext4_*' --sort time
      kgdbpatch top darwin --once --json
    """
    from kgdbpatch.kernel.top import Top

    with attach(name, image, wait) as kernel, ended_kindly():
        watching = Top(kernel, pattern, sort=sort.value)
        try:
            with progress("putting the counters in") as say:
                watching.start(say)
            if not as_json:
                _told(watching)
            with suppress(KeyboardInterrupt), _shown(as_json, rows) as show:
                allowed = interval if once else seconds
                until = None if allowed is None else time.monotonic() + allowed
                while until is None or (left := until - time.monotonic()) > 0:
                    watching.wait(interval if until is None else min(interval, left))
                    show(watching.rows())
        finally:
            with progress("taking the counters out"):
                watching.stop()


def _told(watching: Top) -> None:
    left = len(watching.functions) - watching.counted
    beside = f"; {left:,} cannot be ('kgdbpatch check --summary --count' tells why)" if left else ""
    if watching.counted < 50:
        left_out(watching.refused)
    tell(f"kgdbpatch: counting {watching.counted:,} functions{beside}", err=True)


def _cells(row: TopRow, sort: str) -> Iterator[str]:
    yield f"{row.calls_per_second:,.0f}"
    if sort == "blocks":
        yield "-" if row.blocks_per_second is None else f"{row.blocks_per_second:,.0f}"
    if sort == "time":
        yield "-" if row.share is None else f"{100 * row.share:.1f}%"
        yield "-" if row.time is None or not row.calls else nanoseconds(row.time / row.calls)
    yield row.function


def _columns(sort: str) -> list[str]:
    more = {"blocks": ["BLOCKS/S"], "time": ["TIME", "A CALL"]}.get(sort, [])
    return ["CALLS/S", *more, "FUNCTION"]


def _sort_of(rows: Sequence[TopRow]) -> str:
    if any(row.time is not None for row in rows):
        return "time"
    return "blocks" if any(row.blocks is not None for row in rows) else "calls"


@contextmanager
def _shown(as_json: bool, most: int | None) -> Iterator[Callable[[list[TopRow]], None]]:
    """Yield what shows the rows of an interval: in place on a terminal, else one table after the other."""
    if as_json:

        def as_objects(rows: list[TopRow]) -> None:
            for row in rows[: most or len(rows)]:
                json_line({**asdict(row), "symbol": row.function})

        yield as_objects
        return
    if not sys.stdout.isatty():

        def as_tables(rows: list[TopRow]) -> None:
            sort = _sort_of(rows)
            seconds = f"{rows[0].seconds:.1f} s" if rows else "nothing was called"
            tell(f"-- {rows[0].interval if rows else ''} {seconds}")
            table(_columns(sort), [[*_cells(row, sort)] for row in rows[: most or _USUAL]])
            sys.stdout.flush()

        yield as_tables
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    console = Console()

    def picture(rows: list[TopRow]) -> Group:
        sort = _sort_of(rows)
        total = sum(row.calls_per_second for row in rows)
        heading = f"{len(rows):,} functions, {total:,.0f} calls a second"
        found = Table(box=None, pad_edge=False)
        for column in _columns(sort):
            found.add_column(column, justify="left" if column == "FUNCTION" else "right", no_wrap=True)
        for row in rows[: most or max(console.size.height - _BESIDE, 1)]:
            found.add_row(*(Text(printable(cell)) for cell in _cells(row, sort)))
        return Group(Text(heading, no_wrap=True), found)

    with Live(console=console, auto_refresh=False) as live:
        yield lambda rows: live.update(picture(rows), refresh=True)
