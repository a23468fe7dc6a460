"""Commands that measure a running kernel for a while: callers, latency."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from kgdbpatch.cli import completion
from kgdbpatch.cli.ending import ended_kindly
from kgdbpatch.cli.options import AsJson, ImageFile, Name, Wait, attach
from kgdbpatch.cli.output import json_line, table, tell, with_symbols
from kgdbpatch.cli.waiting import progress

if TYPE_CHECKING:
    from kgdbpatch.errors import Refused
    from kgdbpatch.profiles.rows import LatencyRow

__all__ = ["Function", "Seconds", "callers", "in_unit", "latency", "left_out", "nanoseconds"]

_BAR = 40  # letters of a histogram's longest bar

Function = Annotated[
    str, Argument(metavar="FUNC", help="A function of the kernel.", autocompletion=completion.functions)
]
Seconds = Annotated[
    float | None,
    Option("--seconds", metavar="S", min=0, help="End after so long; else by Ctrl-C."),
]


class Unit(StrEnum):
    """What calls are measured in."""

    TIME = "time"
    INSTRUCTIONS = "instructions"


def left_out(refused: Sequence[Refused]) -> None:
    """Tell, on stderr, which functions a rule forbids to measure."""
    rules: dict[str, list[Any]] = {}
    for one in refused:
        rules.setdefault(one.rule, []).append(one)
    for rule, group in rules.items():
        tell(f"kgdbpatch: left out: {len(group)} by rule '{rule}': {group[0]}", err=True)


def callers(
    name: Name,
    function: Function,
    seconds: Seconds = None,
    most: Annotated[
        int, Option("--most", metavar="N", min=1, max=1 << 16, help="How many callers are told apart.")
    ] = 1024,
    image: ImageFile = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Count from where a function is called: each place, how often, and its share of all calls.

    Calls by pointer count as well: the place is told by the return address at the function's entry. Where
    that place calls another function, which jumps on to FUNC (a tail call), the other is named. The guest
    is not stopped to read the counts; 37 instructions are added to a call. At the end, or when this command
    is ended, the counter is taken out.

    \\b
    Examples:
      kgdbpatch callers linux kfree --seconds 5
      kgdbpatch callers darwin strlen --seconds 1 --json
    """
    from kgdbpatch.kernel.callers import Callers

    with attach(name, image, wait) as kernel, ended_kindly():
        counting = Callers(kernel, function, most=most)
        try:
            with progress("putting the counter in") as say:
                counting.start(say)
            with suppress(KeyboardInterrupt):
                counting.wait(seconds)
            rows = counting.rows()
        finally:
            counting.stop()
    if as_json:
        for row in rows:
            json_line(with_symbols(asdict(row), kernel.image.symbolize))
        return
    if not rows:
        tell(f"{function} was not called")
        return
    told = {"tail": "by way of", "pointer": "by pointer", "patch": "a patch", "jump": "no call is there"}
    table(
        ("CALLS", "SHARE", "CALLER", ""),
        [
            (
                row.count,
                f"{100 * row.share:.1f}%",
                row.symbol,
                " ".join([told.get(row.kind, ""), row.through or ""]),
            )
            for row in rows
        ],
    )
    if rows[0].lost:
        tell(f"kgdbpatch: warning: {rows[0].lost} calls of more callers had no room: try --most", err=True)


def latency(
    name: Name,
    pattern: Annotated[
        str, Argument(metavar="GLOB", help="Functions: a glob, or one.", autocompletion=completion.functions)
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
    """Measure how long the calls of functions take, from entry to return: a histogram of each.

    Time is the guest's own, of its time base; what a thread sleeps or is switched out within the function
    counts. Entry and return are paired by the stack frame, so recursion and threads are right. Calls that
    began before are not counted, calls under way at the end are told. The probe itself takes some 60
    instructions of a call's time. At the end, or when this command is ended, all is taken out.

    \\b
    Examples:
      kgdbpatch latency linux vfs_read --seconds 5
      kgdbpatch latency linux 'ext4_*' --seconds 10 --json
      kgdbpatch latency darwin strlen --seconds 1 --unit instructions
    """
    from kgdbpatch.kernel.latency import Latency

    with attach(name, image, wait) as kernel, ended_kindly():
        measuring = Latency(kernel, pattern, unit=unit.value)
        try:
            with progress("putting the probes in") as say:
                measuring.start(say)
            left_out(measuring.refused)
            with suppress(KeyboardInterrupt):
                measuring.wait(seconds)
            rows = measuring.rows(under_way=True)
        finally:
            measuring.stop()
    called = [row for row in rows if row.calls or row.under_way or everything]
    for row in called:
        if as_json:
            json_line(with_symbols(asdict(row), kernel.image.symbolize))
        else:
            _show(row)
    if not called and not as_json:
        tell(f"none of {len(rows)} functions was called" if len(rows) > 1 else f"{pattern} was not called")


def _show(row: LatencyRow) -> None:
    opened = f", {row.under_way} under way" if row.under_way else ""
    ended = f", {row.unreturned} never to return" if row.unreturned else ""
    tell(f"{row.function}: {row.calls} calls{opened}{ended}")
    if row.calls:
        tell(
            f"  least {in_unit(row.least, row.unit)}, average {in_unit(row.average, row.unit)}, "
            f"most {in_unit(row.most, row.unit)}"
        )
    most = max((count for _, _, count in row.buckets), default=0)
    labels = [f"[{in_unit(low, row.unit)}, {in_unit(high, row.unit)})" for low, high, _ in row.buckets]
    width, digits = max(map(len, labels), default=0), len(str(most))
    for label, (_, _, count) in zip(labels, row.buckets, strict=True):
        tell(f"  {label:<{width}}  {count:>{digits}} |{'█' * round(_BAR * count / most):<{_BAR}}|")


def in_unit(value: float | None, unit: str) -> str:
    """Return a figure for people, in the unit that rows name."""
    if value is None:
        return "-"
    if unit != "ns":
        return f"{value:,.0f}" if unit == "instructions" else f"{value:,.0f} {unit}"
    return nanoseconds(value)


def nanoseconds(value: float) -> str:
    """Return a time for people: three digits, with a unit."""
    for size, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if value >= size:
            return f"{value / size:.3g} {name}" if value < 1000 * size else f"{value / size:,.0f} {name}"
    return f"{value:.0f} ns"
