"""What profiles tell: one row of each kind, as ``--json`` prints it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BottleneckRow",
    "CallerRow",
    "GraphRow",
    "LatencyRow",
    "LoopRow",
    "PathRow",
    "StackRow",
    "TimerRow",
    "TopRow",
]


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


@dataclass(frozen=True, slots=True)
class PathRow:
    """A function on the way to a bottleneck: ``share`` of all stacks, ``waited`` of those that it was on.

    The rest is as for `TimerRow`, by its instruments; None where a rule forbade them.
    """

    function: str
    address: int
    share: float
    waited: float
    calls: int | None
    inclusive: int | None
    exclusive: int | None
    elapsed: int | None


@dataclass(frozen=True, slots=True)
class LoopRow:
    """The code of a function that runs most: from ``start`` to before ``end``, ``line`` of ``file``.

    It ran ``hits`` times, ``per_call`` for each call of the function.
    """

    start: int
    end: int
    symbol: str
    hits: int
    per_call: float | None
    file: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class BottleneckRow:
    """Why a kernel is slow: ``function`` is where the time goes, on the way of ``path`` from where it enters.

    ``why`` is ``computes`` (on its own), ``calls`` (``callee`` so often) or ``waits`` (for ``callee``, whom
    others are in meanwhile); ``looks`` is how many moments were looked at, of which so many counted.
    ``instrumented``: after how many seconds how many functions, or blocks, were instrumented, and for what;
    ``functions`` is how many of all, and the kernel has ``of``.
    """

    asked: str
    function: str
    why: str
    callee: str | None
    unit: str
    path: tuple[PathRow, ...]
    loop: LoopRow | None
    looks: int
    counted: int
    instrumented: tuple[tuple[float, int, str], ...]
    functions: int
    of: int
