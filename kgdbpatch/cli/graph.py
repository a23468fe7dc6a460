"""The command that shows calls within calls of a function, with their times."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Option

from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line, tell
from kgdbpatch.cli.profiles import Function, Seconds, in_unit, left_out
from kgdbpatch.cli.waiting import progress
from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from kgdbpatch.kernel.graph import Graph

__all__ = ["graph"]

_AT_ONCE = 0.2  # seconds from one look to the next


def graph(
    name: Name,
    function: Function,
    depth: Annotated[int, Option("--depth", metavar="N", min=1, help="How many levels of calls.")] = 3,
    seconds: Seconds = None,
    calls: Annotated[
        int | None, Option("--calls", metavar="N", min=1, help="End after so many calls of FUNC.")
    ] = None,
    most: Annotated[
        int, Option("--most", metavar="N", min=1, help="How many functions are probed at most.")
    ] = 500,
    slots: Annotated[
        int, Option("--events", metavar="N", min=128, max=1 << 16, help="How many a CPU's ring holds.")
    ] = 8192,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show the calls within each call of a function: nested, with the CPU and how long each took.

    What FUNC calls, and what these call, is known from the kernel's call graph; functions called by pointer
    are added once they are seen. Interrupts that come within a call are shown as such. Functions at which a
    rule forbids a probe are missing, what they call stands in their caller. A call of FUNC is shown when it
    has returned; times have that of the probes within, some 150 instructions each. At the end, or when this
    command is ended, all is taken out.

    \b
    Examples:
      kgdbpatch graph linux vfs_read --calls 3
      kgdbpatch graph linux udp_sendmsg --depth 5 --seconds 1 --json
      kgdbpatch graph darwin run_netisr --depth 2 --calls 1
    """
    if slots & (slots - 1):
        raise Misuse(f"--events is a power of two: {1 << slots.bit_length()}, not {slots}")
    from kgdbpatch.kernel.graph import Graph

    with attach(name, image, wait) as kernel, ended_kindly():
        tracing = Graph(kernel, function, depth=depth, most=most, slots=slots)
        try:
            with progress("putting the probes in") as say:
                tracing.start(say)
            left_out(tracing.refused)
            beside = f"; {tracing.left_out} more are not: try --most" if tracing.left_out else ""
            tell(f"kgdbpatch: probing {len(tracing.probed)} functions{beside}", err=True)
            with suppress(KeyboardInterrupt):
                _show(tracing, seconds, calls, as_json)
            if tracing.lost:
                tell(f"kgdbpatch: warning: {tracing.lost} events were lost: try --events", err=True)
        finally:
            with progress("taking the probes out"):
                tracing.stop()


def _show(tracing: Graph, seconds: float | None, calls: int | None, as_json: bool) -> None:
    from kgdbpatch.profiles.nesting import graph_lines

    until = None if seconds is None else time.monotonic() + seconds
    shown, last = 0, None
    while (calls is None or shown < calls) and (until is None or time.monotonic() < until):
        left = _AT_ONCE if until is None else max(min(_AT_ONCE, until - time.monotonic()), 0)
        tracing.wait(left, None if calls is None else calls - shown)
        for call in tracing.calls()[: None if calls is None else calls - shown]:
            rows = tracing.rows_of(call)
            shown += 1
            if as_json:
                for row in rows:
                    json_line({**asdict(row), "symbol": row.function})
                continue
            if last != call.thread:
                last = call.thread
                tell(f" -- {rows[0].name or 'thread'} (0x{call.thread:08x})")
            for line in graph_lines(rows, lambda value: in_unit(value, tracing.clock.unit)):
                tell(line, flush=True)
