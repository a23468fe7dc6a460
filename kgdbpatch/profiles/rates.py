"""Rates of counters: what was added in an interval, by function, the busiest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kgdbpatch.profiles.rows import TopRow

__all__ = ["SORTS", "Counts", "top_rows"]

SORTS = ("calls", "time", "blocks")
_WORD = 1 << 32


class Counts(NamedTuple):
    """What functions have done up to ``at`` (seconds of the host's clock), by their addresses; time in ns.

    ``blocks`` and ``time`` are of those of which it is measured; their counters are as wide as they need be.
    """

    at: float
    calls: Mapping[int, int]
    blocks: Mapping[int, Mapping[int, int]]  # function: block: executions
    time: Mapping[int, float]


def _added(now: int, before: int) -> int:
    """Return what a counter of 32 bits has counted."""
    return (now - before) % _WORD


def top_rows(
    now: Counts,
    before: Counts,
    name: Callable[[int], str],
    *,
    interval: int,
    sort: str,
    cpus: int | None,
) -> list[TopRow]:
    """Return what each function did since ``before``, the busiest first; those that did nothing are left out.

    Functions that ``before`` does not have began to be counted since: they are left out as well. Without
    ``cpus`` it is not known how much time there was.
    """
    seconds = now.at - before.at
    rows = []
    for address, count in now.calls.items():
        if address not in before.calls:
            continue
        calls = _added(count, before.calls[address])
        blocks = None
        if address in now.blocks and address in before.blocks:
            old = before.blocks[address]
            blocks = sum(_added(count, old[at]) for at, count in now.blocks[address].items())
        known = address in now.time and address in before.time
        time = now.time[address] - before.time[address] if known else None
        if not (calls or blocks or time):
            continue
        rows.append(
            TopRow(
                interval,
                round(seconds, 3),
                name(address),
                address,
                calls,
                round(calls / seconds, 1),
                blocks,
                None if blocks is None else round(blocks / seconds, 1),
                time,
                None if time is None or cpus is None else round(time / (seconds * 1e9 * cpus), 4),
            )
        )
    return sorted(rows, key=lambda row: (-(getattr(row, sort) or 0), -row.calls, row.function))
