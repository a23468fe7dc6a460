"""Print what was measured: a table and what its columns mean, or JSON lines."""

from __future__ import annotations

from dataclasses import asdict

from bench.cost import Costs
from kgdbpatch.cli.output import json_line, table

__all__ = ["print_costs", "print_costs_json"]

_COLUMNS = ("AT A HIT", "COST", "GLUE", "PAYLOAD", "RANGE", "LOOP", "STOPPED", "PACKETS")
_MEANING = """\
COST     instructions the guest executes more than without it: stepped through, interrupts held back,
         and equal to QEMU's own count; the median of three hits, RANGE is from the least to the most.
         On linux printing includes the console, on darwin a process writes the line later.
         A breakpoint's work (same value counted and printed, by GDB's commands) is done by the host
GLUE     branches, saves, restores, counting; PAYLOAD the code asked for and all that it calls
LOOP     the same from a loop at full speed (linux: init's udp command), give or take a few: with
         clock interrupts and with what is put off to an interrupt
STOPPED  the host's time in which the guest stands still, by QEMU's clock; PACKETS sent by GDB\
"""


def _number(value: float | None, form: str = "{}") -> str:
    return form.format(value) if value else "-"


def print_costs(costs: Costs) -> None:
    """Print one profile's costs for people."""
    print(f"{costs.profile}: cost of one hit at {costs.site}, in guest instructions")
    table(
        _COLUMNS,
        [
            (
                row.what,
                row.instructions,
                "-" if row.glue is None else row.glue,
                "-" if row.payload is None else row.payload,
                row.least if row.least == row.most else f"{row.least}..{row.most}",
                _number(row.average),
                f"{row.stop_ms} ms" if row.stops else "-",
                _number(row.round_trips),
            )
            for row in costs.rows
        ],
    )
    stopped, stops = max((row.stop_ms, row.stops) for row in costs.rows)
    lost = stopped / 1000 * costs.speed
    print(_MEANING)
    print(
        f"{stops:g} stops of together {stopped} ms: time for {lost / 1e3:.0f} thousand instructions, at the "
        f"{costs.speed / 1e6:.0f} million a second\nthat this guest executes here while counting them "
        "(its idle loop included)"
    )


def print_costs_json(costs: Costs) -> None:
    """Print one profile's costs, one object a line."""
    for row in costs.rows:
        json_line(
            {
                "bench": "cost",
                "profile": costs.profile,
                "site": costs.site,
                **asdict(row),
                "instructions_per_second": round(costs.speed),
            }
        )
