"""What the dashboard says: a look at a guest as words for its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from kgdbpatch.cli.output import printable

if TYPE_CHECKING:
    from kgdbpatch.kernel.dashboard import DashboardRow, DashboardView
    from kgdbpatch.personality.base import LogLine

__all__ = ["COLUMNS", "cells", "heading", "log_line", "size", "span"]

COLUMNS = ("ID", "SITE", "STATE", "HITS", "HITS/S", "FROM")
_STYLES = {"running": "bold green", "paused": "bold yellow", "held": "bold yellow"}  # else it is dead
_KIB = 1024


def span(seconds: float) -> str:
    """Return a time: ``0:01:23``, ``2 days 3:04:05``."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    before = f"{days} day{'s' * (days > 1)} " if days else ""
    return f"{before}{hours}:{minutes:02}:{left:02}"


def size(count: float) -> str:
    """Return a number of bytes: ``912 bytes``, ``1.5 KiB``, ``32 MiB``."""
    if count < _KIB:
        return f"{count:.0f} bytes"
    unit = "KiB"
    count /= _KIB
    if count >= _KIB:
        count, unit = count / _KIB, "MiB"
    return f"{count:.1f}".removesuffix(".0") + f" {unit}"


def heading(view: DashboardView) -> Text:
    """Return the two lines that tell how a guest is, and its rates."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{printable(view.name)} ", "bold")
    text.append(view.state, _STYLES.get(view.state, "bold white on red"))
    if view.reason:
        text.append(f": {printable(view.reason)}")
    elif view.debugger:
        text.append(f": a debugger is at work, {printable(view.debugger)}")
    for oops in view.health.oopses[:1] if view.state == "running" else ():
        text.append(f"; it has said '{printable(oops)}'", "bold yellow")
    told = [f"{printable(view.kernel)}, QEMU {view.pid or 'not seen'}"]
    if view.up is not None:
        told.append(f"up {span(view.up)}")
    if view.ticks is not None:
        told.append(f"{view.ticks:,.0f} ticks/s")
    if view.switches is not None:
        told.append(f"{view.switches:,.0f} switches/s")
    if view.used is not None and view.arena is not None:
        told.append(f"arena {size(view.used)} of {size(view.arena)}")
    if any(row.rate is not None for row in view.patches):
        told.append(f"{sum(row.rate or 0 for row in view.patches):,.0f} hits/s")
    return text.append("\n" + "  ·  ".join(told))


def cells(row: DashboardRow) -> list[Text]:
    """Return what stands in the columns of a patch."""
    hits = "-" if row.hits is None else f"{row.hits:,}"
    rate = (
        "-"
        if row.rate is None
        else f"{row.rate:,.0f}"
        if row.rate >= 10 or not row.rate
        else f"{row.rate:.1f}"
    )
    style = "" if row.state == "active" else "yellow"
    return [
        Text(str(row.id), justify="right"),
        Text(printable(row.place)),
        Text(row.state, style),
        Text(hits, justify="right"),
        Text(rate, justify="right"),
        Text(printable(row.file or "-")),
    ]


def log_line(line: LogLine) -> Text:
    """Return a line of the log."""
    message = printable(line.message, "\t")
    if not line.time:
        return Text(message, "bold red" if line.source == "panic" else "")
    return Text.assemble(
        (f"{printable(line.time)} ", "dim"), (f"{printable(line.source)}: ", "cyan"), message
    )
