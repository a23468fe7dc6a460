"""The command that times functions by the clocks of their threads."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line, table, tell
from kgdbpatch.cli.profiles import Seconds, Unit, in_unit, left_out
from kgdbpatch.cli.waiting import progress

__all__ = ["timers"]


def timers(
    name: Name,
    functions: Annotated[
        list[str],
        Argument(metavar="GLOB…", help="Functions: globs, or names.", autocompletion=completion.functions),
    ],
    seconds: Seconds = None,
    unit: Annotated[
        Unit, Option("--unit", help="What is measured; instructions of a guest booted with --icount.")
    ] = Unit.TIME,
    everything: Annotated[bool, Option("--all", help="Also functions that were not called.")] = False,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Time functions by what their threads have run: neither sleep nor preemption counts.

    RUN is with what a function calls, OWN without the other functions that are timed: all OWN together are
    the time of those that nobody timed has called. PASSED is with the time in which threads waited. The
    place where the kernel changes threads is instrumented as well; interrupts count for whom they interrupt,
    and so may a stop of the guest. A probe takes some 200 instructions of its caller's time. At the end, or
    when this command is ended, all is taken out.

    \b
    Examples:
      kgdbpatch timers linux vfs_read vfs_write --seconds 5
      kgdbpatch timers linux 'udp_*' --seconds 2 --json
      kgdbpatch timers darwin tsleep run_netisr --seconds 1
    """
    from kgdbpatch.kernel.thread_timers import ThreadTimers

    with attach(name, image, wait) as kernel, ended_kindly():
        measuring = ThreadTimers(kernel, functions, unit=unit.value)
        try:
            with progress("putting the timers in") as say:
                measuring.start(say)
            left_out(measuring.refused)
            with suppress(KeyboardInterrupt):
                measuring.wait(seconds)
            rows = [row for row in measuring.rows() if row.calls or everything]
            lost = measuring.lost
        finally:
            measuring.stop()
    if as_json:
        for row in rows:
            json_line(asdict(row))
    elif rows:
        table(
            ("CALLS", "RUN", "OWN", "A CALL", "LONGEST", "PASSED", "FUNCTION"),
            [
                (
                    row.calls,
                    in_unit(row.inclusive, row.unit),
                    in_unit(row.exclusive, row.unit),
                    in_unit(row.inclusive / row.calls if row.calls else 0, row.unit),
                    in_unit(row.longest, row.unit),
                    in_unit(row.elapsed, row.unit),
                    row.function,
                )
                for row in rows
            ],
        )
    else:
        tell("no call has returned")
    if lost:
        tell(
            f"kgdbpatch: warning: {lost} calls were not timed: of more threads than there is room for",
            err=True,
        )
