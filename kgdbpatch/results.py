"""What the facade answers: checks, live registers, patches, verifications; plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Called",
    "Check",
    "CpuRegisters",
    "FrameRow",
    "Holder",
    "KernelChange",
    "LiveRegisters",
    "PatchRow",
    "PatchState",
    "SnapshotRow",
    "ThreadRow",
    "Trace",
    "Verification",
]


class PatchState(StrEnum):
    """How an entry of the patch table stands.

    Unfinished: its apply was cut off before the splice. Retired: removed, but something still refers to its
    memory. Damaged: the site holds neither its word nor the original one. Unloaded: the module that it was
    in is loaded no more, and the patch went with it. Removed and dropped are answers of a removal: out, or
    only its record gone.
    """

    UNFINISHED = "unfinished"
    ACTIVE = "active"
    RETIRED = "retired"
    DAMAGED = "damaged"
    UNLOADED = "unloaded"
    REMOVED = "removed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Check:
    """The answer to "may I patch here?"; ``saved`` and ``body_words`` are those of a call.

    ``rule`` and ``reason`` say why not, ``nearest`` where else; ``entry`` is how a site would lead to
    the patch, as for `PatchRow`.
    """

    site: int
    symbol: str
    ok: bool
    rule: str | None
    reason: str | None
    nearest: int | None
    nearest_symbol: str | None
    springboard: bool
    entry: str | None
    saved: tuple[str, ...]
    body_words: int


@dataclass(frozen=True, slots=True)
class LiveRegisters:
    """The instruction at ``address``, the registers live before it and those a patch may use."""

    address: int
    instruction: str
    live: tuple[str, ...]
    free: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """What keeps a removed patch's memory in use.

    ``by`` is a thread's name, or ``patch N`` that leads on to it; ``at`` is the word of a kernel
    stack, None for a patch; ``address`` is where in the removed patch execution goes on.
    """

    by: str
    at: int | None
    address: int


@dataclass(frozen=True, slots=True)
class PatchRow:
    """An entry of the guest's patch table; ``hits`` is None for patches that do not count.

    ``entry`` is how the site leads to the patch: ``branch``, ``springboard`` or ``trap``;
    ``forced`` are the rules that it goes against.
    ``exits``, ``inside`` and ``unreturned`` are for those at a function's exits, whose ``hits`` are its
    entries: how many calls returned, how many are under way, and how many never will return (their thread
    died, or left the function otherwise). The last two are None where nobody looked.
    ``held_by`` is for retired ones; it is empty when their memory is free by now. ``module`` is what the
    site is or was in, None for the kernel itself; ``update`` the one that the patch is part of. ``file`` is
    the file that it is from and ``since`` when it was put in (the host's time, seconds since 1970), of
    updates and C payloads; None where the guest does not know. The
    ``entry`` of a word of data that an update writes is ``data``. ``holds`` are the modules and
    extensions that it keeps loaded as its payload uses their names, ``lost`` those that are loaded no more.
    ``coverage`` is for the one entry that stands for all of a coverage: ``3102 of 3915 blocks run``.
    """

    id: int
    site: int
    state: PatchState
    hits: int | None
    entry: str
    forced: tuple[str, ...] = ()
    held_by: tuple[Holder, ...] = ()
    skipped: int | None = None
    module: str | None = None
    update: str | None = None
    file: str | None = None
    since: float | None = None
    exits: int | None = None
    inside: int | None = None
    unreturned: int | None = None
    holds: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    coverage: str | None = None


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """What a trace program told: ``event`` is ``printf``, ``print``, ``map`` (print that one) or ``stop``.

    ``text`` is as it is shown, or the map's name; ``values`` are numbers, strings and names of addresses.
    """

    event: str
    cpu: int
    text: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class MapRow:
    """An element of a map of a trace program.

    ``kind`` is what it gathers (``count``, ``sum``, ``hist``, or ``value`` and so on), ``value`` the count,
    sum, mean or value, ``count`` of how many values; ``buckets`` are (least value, below what, how many),
    None for no bound. ``lost`` is how many values of the whole map had no room.
    """

    map: str
    key: tuple[object, ...]
    kind: str
    value: int | float
    count: int
    buckets: tuple[tuple[int | None, int | None, int], ...]
    lost: int


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """An update that is in a guest: its name, the ids of its patches, whence and since when.

    ``functions`` are those replaced, ``data`` what is written over, with how many words. ``since`` is the
    host's time (seconds since 1970), ``sha256`` the file's. ``forced``: it did not wait for a safe moment.
    """

    name: str
    ids: tuple[int, ...]
    state: PatchState
    file: str
    since: float
    sha256: str
    functions: tuple[str, ...]
    data: tuple[str, ...]
    forced: bool


@dataclass(frozen=True, slots=True)
class Called:
    """What a function that was called gave: its bits, these as a signed number, its ``type`` as C spells it.

    ``value`` is None for ``void``; ``type`` is None where nothing tells of it, and all are 32 bits then.
    ``text`` is for people.
    """

    value: int | None
    signed: int | None
    type: str | None
    text: str


@dataclass(frozen=True, slots=True)
class KernelChange:
    """A word of code that the kernel itself has rewritten since it was first attached to.

    ``symbol`` is its place, ``kind`` what it is (kgdbpatch.patch.rewritten), ``text`` a line that says
    what happened. ``patches`` are the ids of those whose splice the kernel has so overwritten.
    """

    address: int
    symbol: str
    kind: str
    text: str
    patches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the running text is its image plus the recorded patches.

    ``mismatched`` are the addresses where it is not. What the kernel has rewritten of what is its own
    to rewrite (``kernel_changes``) is no mismatch, nor are patches whose modules were ``unloaded``.
    """

    ok: bool
    patched: int
    mismatched: tuple[int, ...]
    kernel_changes: tuple[KernelChange, ...] = ()
    unloaded: tuple[PatchRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """A thread of a kernel, or a CPU of one whose threads are not known.

    ``thread`` is the address of its structure, ``id`` its number, ``pid`` that of its process; ``cpu`` is the
    one that it runs on, None for the others. ``pc`` is where it is, within its process perhaps; of a thread
    that sleeps where it went to sleep: what the scheduler does then is left out.
    """

    thread: int | None
    id: int | None
    pid: int | None
    name: str
    state: str
    cpu: int | None
    pc: int | None
    symbol: str | None


@dataclass(frozen=True, slots=True)
class FrameRow:
    """A frame of a trace, ``level`` 0 being the innermost; ``sp`` is where it begins in the stack.

    ``kind`` is ``cpu`` (a CPU is there), ``call`` (it has called what is one level below), ``interrupted``
    (by the ``exception`` that what is one level below handles) or ``process`` (the same, but code of a
    process). In a patch's body ``patch`` is its id and ``function`` the place in the kernel that it is for.
    """

    level: int
    address: int
    symbol: str
    kind: str
    sp: int
    patch: int | None = None
    function: str | None = None
    exception: str | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """The stack of a thread, or of a CPU whose thread is not known; the innermost frame first.

    The rest is as for `ThreadRow`.
    """

    thread: int | None
    id: int | None
    pid: int | None
    name: str
    state: str
    cpu: int | None
    frames: tuple[FrameRow, ...]


@dataclass(frozen=True, slots=True)
class CpuRegisters:
    """The registers of a CPU by name, and the symbols of those that point into code."""

    cpu: int
    thread: str | None
    registers: dict[str, int]
    symbols: dict[str, str]


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A saved state: ``date`` in seconds since 1970, ``size`` in bytes, ``uptime`` in guest seconds.

    ``patches`` are the ids of those that stood then, None where that was not noted.
    """

    tag: str
    date: float
    size: int
    uptime: float
    patches: tuple[int, ...] | None
