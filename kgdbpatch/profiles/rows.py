"""What profiles tell: one row of each kind, as ``--json`` prints it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CallerRow", "GraphRow", "LatencyRow", "StackRow", "TopRow"]


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
class TopRow:
    """What a function did in an interval of ``seconds``, of the host's clock; ``interval`` is its number.

    ``calls`` and ``blocks`` (basic blocks executed) are of the interval; ``time`` is that of calls that
    returned in it, callees included, in ns, ``share`` that time as part of all CPUs'. None: not measured.
    """

    interval: int
    seconds: float
    function: str
    address: int
    calls: int
    calls_per_second: float
    blocks: int | None
    blocks_per_second: float | None
    time: float | None
    share: float | None


@dataclass(frozen=True, slots=True)
class GraphRow:
    """A call within a call: the tree ``number``, how deep in it; the calls within follow, one level deeper.

    ``kind`` is ``call`` or ``interrupt``; ``thread`` is the address of its structure (or of its stack),
    ``caller`` where it was called from: in the call that it is within, or a function between that is not
    measured. Times are in ns (ticks where the clock is not known); ``own`` is without the calls within.
    ``lost`` events of its time were not read: calls within it may be missing. ``calls`` are directly within.
    """

    number: int
    depth: int
    function: str
    address: int
    kind: str
    cpu: int
    thread: int
    name: str | None
    caller: int
    caller_symbol: str
    began: float
    duration: float
    own: float
    lost: int
    calls: int


@dataclass(frozen=True, slots=True)
class StackRow:
    """A stack that was seen ``count`` times, ``share`` of all: names of functions, the outermost first."""

    stack: tuple[str, ...]
    count: int
    share: float
