"""What profiles tell: one row of each kind, as ``--json`` prints it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CallerRow", "LatencyRow", "TimerRow"]


@dataclass(frozen=True, slots=True)
class CallerRow:
    """A place from which a function was called.

    ``kind`` is ``call``, ``pointer`` (the place calls by a pointer), ``tail`` (it calls ``through``, which
    jumps on to the function), ``patch`` (a patch's code), or ``jump`` (what stands there is no call).
    ``share`` is of all calls; ``lost`` calls found no room to be told apart.
    """

    site: int
    symbol: str
    kind: str
    through: str | None
    count: int
    share: float
    lost: int


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """How long the calls of a function took, from entry to return, in ``unit``: ns, instructions, or ticks.

    ``calls`` have returned; ``under_way`` had not when that was asked, ``unreturned`` never will (their
    threads ended); both are None where nobody asked. ``least``, ``average`` and ``most`` are None without
    calls; ``total`` is of all. ``resolution`` is the smallest difference that the guest's clock tells.
    ``buckets`` are (least value, below what, how many).
    """

    function: str
    address: int
    unit: str
    calls: int
    under_way: int | None
    unreturned: int | None
    least: float | None
    average: float | None
    most: float | None
    total: float
    resolution: float
    buckets: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TimerRow:
    """How long the calls of a function ran by the clocks of their threads, in ``unit`` (see `LatencyRow`).

    ``inclusive`` is with all that they called, ``exclusive`` without the other timed functions, ``elapsed``
    with the time in which their threads waited; ``longest`` is the longest inclusive one of a call.
    """

    function: str
    address: int
    unit: str
    calls: int
    inclusive: int
    exclusive: int
    elapsed: int
    longest: int
    resolution: float
