"""The command that finds why a running kernel is slow."""

from __future__ import annotations

import io
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line
from kgdbpatch.cli.profiles import in_unit
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import BadPatch

if TYPE_CHECKING:
    from rich.console import Console

    from kgdbpatch.profiles.rows import BottleneckRow, PathRow

__all__ = ["why_slow"]

_WIDTH = 110


def why_slow(
    name: Name,
    asked: Annotated[
        str,
        Option(
            "--for",
            metavar="METRIC",
            help="What is slow: 'cpu', the CPUs' time, or a function whose calls take long.",
        ),
    ] = "cpu",
    seconds: Annotated[
        float, Option("--seconds", metavar="S", min=0.1, help="How long to look, and then to measure.")
    ] = 5.0,
    html: Annotated[
        Path | None, Option("--html", metavar="FILE", help="Write the report as a page of its own, too.")
    ] = None,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Find why a kernel is slow: the way from where it is entered to the function, and its loop.

    All threads' stacks are looked at for a while, in short stops. The functions on the way that most of them
    took are timed then, and the blocks of the last one are counted; no others are instrumented. Where calls
    wait, the thread that wakes them is found, and what that does meanwhile. All is taken out again.

    \b
    Examples:
      kgdbpatch why-slow linux
      kgdbpatch why-slow linux --for udp_recvmsg --seconds 10
      kgdbpatch why-slow darwin --for run_netisr --html slow.html
    """
    from kgdbpatch.kernel.bottleneck import Search

    with attach(name, image, wait) as kernel, ended_kindly():
        search = Search(kernel, asked, seconds=seconds)
        with progress("looking") as say:
            row = search.run(say)
    if as_json:
        json_line(asdict(row))
    else:
        _show(row, _console())
    if html is not None:
        _write(row, html)


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def _write(row: BottleneckRow, path: Path) -> None:
    from rich.console import Console

    page = Console(record=True, file=io.StringIO(), width=_WIDTH, highlight=False, color_system="truecolor")
    _show(row, page)
    try:
        path.write_text(page.export_html(inline_styles=True))
    except OSError as error:
        raise BadPatch(f"{path}: {error.strerror}") from error


def _show(row: BottleneckRow, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(_verdict(row))}[/bold]")
    if row.loop is not None:
        line = "" if row.loop.file is None else f" ({row.loop.file}:{row.loop.line})"
        often = f", {row.loop.per_call:,.0f} times a call" if row.loop.per_call else ""
        console.print(escape(f"Most of its instructions are those at {row.loop.symbol}{line}{often}."))
    console.print()
    way = Table("STACKS", "WAITED", "CALLS", "A CALL", "RUN", "OWN", "FUNCTION", box=None, pad_edge=False)
    for column in way.columns[:-1]:
        column.justify = "right"
    for depth, one in enumerate(row.path):
        way.add_row(*_figures(one, row.unit), escape("  " * depth + one.function))
    console.print(way)
    console.print()
    console.print(
        f"{row.counted} stacks at {row.looks} looks; {row.functions} of {row.of} functions were instrumented:"
    )
    for when, count, what in row.instrumented:
        console.print(escape(f"  after {when:4.1f} s  {count:4} {what}"))


def _figures(one: PathRow, unit: str) -> tuple[str, ...]:
    shares = (f"{100 * one.share:.0f}%", f"{100 * one.waited:.0f}%")
    if not one.calls or one.elapsed is None or one.inclusive is None or one.exclusive is None:
        return (*shares, "-" if one.calls is None else "0", "-", "-", "-")
    each = (in_unit(value / one.calls, unit) for value in (one.elapsed, one.inclusive, one.exclusive))
    return (*shares, f"{one.calls:,}", *each)


def _verdict(row: BottleneckRow) -> str:
    """Return in a sentence where the time goes."""
    if row.why == "calls":
        of = {one.function: one.calls or 0 for one in row.path}
        caller, callee = of.get(row.function, 0), of.get(str(row.callee), 0)
        often = f" {callee / caller:,.0f} times a call" if caller else " very often"
        return f"{row.function} calls {row.callee}{often}."
    if row.why == "waits":
        if row.callee == row.function:
            return f"{row.asked} waits in {row.function}."
        return f"{row.asked} waits in {row.callee}; whoever wakes it is in {row.function} meanwhile."
    return f"{row.function} computes."
