"""What GDB knows of a stopped guest by debug information ("GDB/MI Data/Stack Manipulation", "Breakpoint")."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgdbpatch.errors import CommandFailed, Misuse, TargetLost, TargetTimeout
from kgdbpatch.vm.gdb import Debugger, Session
from kgdbpatch.vm.gdb_process import Gdb
from kgdbpatch.vm.mi import quoted
from kgdbpatch.vm.qemu import Qemu

__all__ = ["Breakpoint", "Frame", "Inspection", "Inspector", "Stop", "Thread", "Value", "Watchpoint"]

_DEADLINE = 40.0  # seconds for an answer
_SYMBOLS = 600.0  # seconds for the debug information of a large kernel
_FRAMES = 63  # the last one that is listed
_KEEP = ("may-write-memory off", "may-write-registers off", "may-call-functions off")
_NUMBER = re.compile(r"(?:[({].*[)}] )?(-?(?:0x[0-9a-f]+|\d+))(?: |$)")
_WATCH = {"write": "", "read": "-r ", "access": "-a "}
_GDBS_SIGNAL = "SIGINT"  # by which GDB stops a guest at the deadline


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression is: its C ``type``, GDB's ``text`` for it, the ``number`` of a scalar or pointer."""

    expression: str
    type: str
    text: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a stack, level 0 where the CPU is; ``function``, ``file`` and ``line`` as far as known."""

    level: int
    address: int
    function: str | None
    file: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread as GDB sees one: a CPU of the guest, and the frame that it is in."""

    id: int
    name: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """An address as the CPU sees it, in real mode too, or a place as GDB spells it: ``file.c:12``."""

    place: str | int


@dataclass(frozen=True, slots=True)
class Watchpoint:
    """An expression with a place in memory that is written with another value, or read, or either."""

    expression: str
    access: str = "write"


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a guest stopped, at which of the points; what a watched expression was and is, where told."""

    point: Breakpoint | Watchpoint
    thread: int
    frame: Frame
    old: str | None = None
    new: str | None = None


def _frame(row: Mapping[str, Any]) -> Frame:
    function = row.get("func")
    line = row.get("line")
    return Frame(
        int(row.get("level", 0)),
        int(row["addr"], 16),
        None if function == "??" else function,
        row.get("file"),
        None if line is None else int(line),
    )


class Inspector(Debugger):
    """A debugger with a GDB of its own that reads ``symbols``, a file with the kernel's debug information.

    Expressions neither assign to nor call anything of the guest's.

    >>> with Inspector(qemu, Path("vmlinux")) as inspector, inspector.inspected() as inspection:
    ...     inspection.evaluate("init_task.pid").number
    0
    """

    def __init__(self, qemu: Qemu, symbols: Path, wait: float = 10.0) -> None:
        self._symbols = symbols
        super().__init__(qemu, wait)

    def _new_gdb(self, *more: str) -> Gdb:
        gdb = super()._new_gdb(*more)
        try:
            settings = [f"-gdb-set {setting}" for setting in _KEEP]  # connected, GDB does not change them
            symbols = f"-file-symbol-file {quoted(str(self._symbols.absolute()))}"
            gdb.command(*settings, symbols, deadline=_SYMBOLS)
        except BaseException:
            gdb.close()
            raise
        return gdb

    @contextmanager
    def inspected(self) -> Iterator[Inspection]:
        """Stop the guest, yield what GDB knows of it, resume the guest; errors as for `stopped`."""
        with self.stopped() as session:
            yield Inspection(session, self._gdb)


class Inspection:
    """A stopped guest as GDB sees it; ``session`` is the same as QEMU tells it, packet by packet."""

    def __init__(self, session: Session, gdb: Gdb) -> None:
        self.session, self._gdb = session, gdb

    def _ask(self, *commands: str) -> list[Mapping[str, Any]]:
        return [result.payload for result in self._gdb.command(*commands, deadline=_DEADLINE)]

    def evaluate(self, expression: str) -> Value:
        """Return what a C expression is where the CPU is; `Misuse` with GDB's words if nothing."""
        words = quoted(expression)
        try:
            value, variable = self._ask(f"-data-evaluate-expression {words}", f"-var-create - * {words}")
            self._ask(f"-var-delete {variable['name']}")
        except CommandFailed as error:
            raise Misuse(f"{expression}: {error}") from error
        text = str(value["value"])
        number = _NUMBER.match(text)
        return Value(expression, str(variable["type"]), text, int(number[1], 0) if number else None)

    def threads(self) -> tuple[Thread, ...]:
        """Return the guest's CPUs."""
        (found,) = self._ask("-thread-info")
        return tuple(
            Thread(int(row["id"]), str(row.get("details") or row["target-id"]), _frame(row["frame"]))
            for row in sorted(found["threads"], key=lambda row: int(row["id"]))
        )

    def frames(self, thread: int = 1) -> tuple[Frame, ...]:
        """Return a CPU's stack, the innermost frame first."""
        (found,) = self._ask(f"-stack-list-frames --thread {thread} --no-frame-filters 0 {_FRAMES}")
        return tuple(map(_frame, found["stack"]))

    def run_to(self, *points: Breakpoint | Watchpoint, deadline: float) -> Stop:
        """Let the guest run until it comes to one of ``points``; it stands still there.

        They are of hardware, and gone afterwards. After ``deadline`` (whole seconds) it is stopped where it
        is and `TargetTimeout` raised; when this process is killed, the guest goes on then at the latest.
        """
        seconds = max(1, math.ceil(deadline))
        numbers: dict[str, Breakpoint | Watchpoint] = {}
        try:
            for point in points:
                numbers[self._insert(point)] = point
            told = self._gdb.run(seconds, seconds + _DEADLINE).payload
        finally:
            self.session.forget()
            with suppress(TargetLost):  # whoever asks next is told
                self._ask("-break-delete")
        frame = _frame(told["frame"])
        number = told.get("bkptno") or _watched(told).get("number", "")
        if number not in numbers:
            where = f"it is at 0x{frame.address:08x}"
            if told.get("signal-name") == _GDBS_SIGNAL:
                raise TargetTimeout(f"the guest came to none of the points within {seconds} s; {where}")
            raise CommandFailed(f"GDB: the guest stopped ({told.get('reason', 'no reason told')}); {where}")
        value = told.get("value", {})
        return Stop(
            numbers[number],
            int(told["thread-id"]),
            frame,
            value.get("old"),
            value.get("new", value.get("value")),
        )

    def _insert(self, point: Breakpoint | Watchpoint) -> str:
        """Set a point; return GDB's number for it. Raises `Misuse` with GDB's words."""
        if isinstance(point, Watchpoint):
            if point.access not in _WATCH:
                raise Misuse(f"'{point.access}' is no access: write, read or access")
            order = f"-break-watch {_WATCH[point.access]}{quoted(point.expression)}"
        else:
            place = point.place if isinstance(point.place, str) else f"*{point.place:#x}"
            order = f"-break-insert -h {quoted(place)}"
        try:
            (set_,) = self._ask(order)
        except CommandFailed as error:
            raise Misuse(f"{point}: {error}") from error
        return str((set_.get("bkpt") or _watched(set_))["number"])


def _watched(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a record that tells of a watchpoint."""
    found = (told[name] for name in ("wpt", "hw-rwpt", "hw-awpt") if name in told)
    return next(found, {})
