"""Name the patches that a CPU or a thread does not leave: one whose payload loops for ever, for instance.

Somebody must be seen inside the same run of it again and again, hardly ever elsewhere, while the CPU spends
`_SPAN` seconds and the guest's clock goes on. Where a patch does not count, a breakpoint behind its payload
says whether it is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.holders import returns
from kgdbpatch.component.quiescence import interrupted_contexts
from kgdbpatch.component.table import Record
from kgdbpatch.errors import TargetBusy, TargetLost, TargetTimeout
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.personality.base import Thread
from kgdbpatch.results import Holder, PatchState
from kgdbpatch.vm.cpus import Glance, glances
from kgdbpatch.vm.qemu import Qemu

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu
    from kgdbpatch.vm.gdb import Session

__all__ = ["cpus_inside"]

_SPAN = 1.0  # seconds of QEMU's processor time; no sound payload takes as long
_PAYLOAD = 1.5  # of them, in which a breakpoint would be hit
_UNSEEN = 0.5  # after which those are given up that were not seen inside
_BATCH = 16  # glances at once
_LEAST, _LEAST_BATCHES = 12, 4  # glances that see a thread inside, and batches of them
_CPU, _COUNTED, _UNCOUNTED = 0.7, 0.1, 0.5  # of the glances; memory is read later than the registers
_SLEEPER = 0.05  # of all glances see one that works; who sleeps inside is hardly ever seen
_LEFT = 4  # times that a patch is hit while one looks, after which it is one that is left
_LONGEST = 60.0  # seconds of looking, on a host that has other things to do
_DEADLINE = 5.0  # seconds for another client to let go of QEMU's monitor
_DEEPEST = 0x1_0000  # bytes of a stack between the first frame that is looked at and the last
_TOP = 0x800  # bytes of a stack in which an interrupt's frame is looked for

Read = Callable[[int, int], bytes | None]
Place = tuple[int | None, int]  # the stack's word, None for a pc, and where execution goes on


class _Eyes:
    """What a look needs: kernel memory, and whose stack a CPU is on."""

    def __init__(self, read: Read, threads: Sequence[Thread], lr_offset: int, cpu: Cpu) -> None:
        self._read, self.threads, self._cpu = read, threads, cpu
        self._lr_offsets = {SYSV.lr_offset, lr_offset}  # a Darwin kernel's compiler may keep to System V's

    def in_process(self, glance: Glance) -> bool:
        """Tell whether a CPU runs a process."""
        return self._cpu.in_process(glance.msr)

    def word(self, address: int) -> int | None:
        """Return a word of kernel memory, or None."""
        data = self._read(address, 4)
        return None if data is None else int.from_bytes(data, "big")

    def thread(self, glance: Glance) -> Thread | None:
        """Return the thread on whose kernel stack a CPU is."""
        if self.in_process(glance):
            return None
        return next((one for one in self.threads if one.stack.start <= glance.sp < one.stack.end), None)

    def place(self, glance: Glance, body: range) -> Place | None:
        """Return where in ``body`` a CPU is or goes on, soon or once an interrupt is over; None: nowhere."""
        found = next((place for place in self.places(glance) if place[1] in body), None)
        if found is not None or self.in_process(glance):
            return found
        start = glance.sp & -8
        stack = np.frombuffer(self._read(start, _TOP) or b"", np.uint8)
        contexts = interrupted_contexts([(start, stack)], [(body.start, body.stop)], self._cpu.kernel_status)
        return next(iter(contexts), None)

    def places(self, glance: Glance) -> Iterator[Place]:
        """Yield (address of the stack's word, address at which a CPU goes on); first its pc, None."""
        yield None, glance.pc
        if not self.in_process(glance):
            yield from returns(glance.sp, glance.sp + _DEEPEST, self.word, self._lr_offsets)


@dataclass(slots=True)
class _Seen:
    """Where a thread, or whatever runs on a CPU, was seen: inside a patch or elsewhere."""

    batches: list[float] = field(default_factory=list)  # the processor time of those that saw it inside
    inside: int = 0
    outside: int = 0
    last: Place = (None, 0)

    def add(self, place: Place | None, spent: float) -> None:
        if place is None:
            self.outside += 1
            return
        self.inside, self.last = self.inside + 1, place
        if not self.batches or self.batches[-1] != spent:
            self.batches.append(spent)

    def stays(self, share: float) -> bool:
        """Tell whether it was inside for long enough and at enough of the moments."""
        if self.inside < _LEAST or len(self.batches) < _LEAST_BATCHES:
            return False
        return self.batches[-1] - self.batches[0] >= _SPAN and self.might(share)

    def might(self, share: float) -> bool:
        return self.inside >= share * (self.inside + self.outside)


class _Look:
    """What is seen of one patch since it was hit last; a thread that was inside then may have left."""

    def __init__(self, record: Record, spent: float) -> None:
        self.record, self.body = record, range(record.body, record.body + record.constant_size)
        counts = record.counted or record.calls
        self._of_thread = _COUNTED if counts else _UNCOUNTED
        self._start, self._left = spent, 0
        self._forget(record.hits)

    def _forget(self, hits: int) -> None:
        self._hits, self._glances = hits, 0
        self._cpus: dict[int, _Seen] = {}
        self._threads: dict[Thread, tuple[int, _Seen]] = {}

    def add(self, rows: Sequence[Sequence[Glance]], spent: float, hits: int, eyes: _Eyes) -> None:
        """Take notice of a batch of glances; ``hits`` is what the patch has counted since."""
        if hits != self._hits:
            self._left += 1
            self._forget(hits)
            return
        self._glances += len(rows)
        for row in rows:
            for number, glance in enumerate(row):
                place = eyes.place(glance, self.body)
                self._cpus.setdefault(number, _Seen()).add(place, spent)
                thread = eyes.thread(glance)
                if thread is not None:
                    self._threads.setdefault(thread, (number, _Seen()))[1].add(place, spent)

    def holders(self) -> tuple[Holder, ...]:
        """Return the CPUs that do not leave the patch, or else the threads."""
        cpus = [(f"CPU {number}", seen) for number, seen in self._cpus.items() if seen.stays(_CPU)]
        threads = [
            (f"CPU {number}, thread '{thread.name}'", seen)
            for thread, (number, seen) in self._threads.items()
            if seen.stays(self._of_thread) and seen.inside >= _SLEEPER * self._glances
        ]
        return tuple(Holder(by, *seen.last) for by, seen in cpus or threads)

    def settled(self, spent: float) -> bool:
        """Tell whether nothing is to be found by looking longer."""
        seen = [*self._cpus.values(), *(one for _, one in self._threads.values())]
        doubtful = any(one.inside and one.might(self._of_thread) for one in seen)
        given_up = spent - self._start >= _UNSEEN and not doubtful
        return given_up or self._left > _LEFT or bool(self.holders())


def _glances(qemu: Qemu) -> list[list[Glance]]:
    """Return a batch of glances; none when another client holds QEMU's monitor, or the host is too busy."""
    try:
        return [row for row in glances(qemu, _BATCH, _DEADLINE) if row]
    except TargetTimeout:
        return []


def _left(qemu: Qemu, stopped: Callable[[], AbstractContextManager[Session]], record: Record) -> bool:
    """Tell whether a patch's payload comes to its end while QEMU works; true where that is not known."""
    process, until = qemu.process, time.monotonic() + _LONGEST
    begun = process.cpu_seconds()
    try:
        with stopped() as session:
            while process.cpu_seconds() - begun < _PAYLOAD:
                try:
                    session.run_to(record.body + 4 * record.tail, 1.0)
                    return True
                except TargetTimeout as error:
                    if isinstance(error, TargetBusy) or time.monotonic() > until:
                        return True
    except TargetLost:
        return True
    return False


def cpus_inside(
    qemu: Qemu,
    arena: Arena,
    read: Read,
    threads: Callable[[], Sequence[Thread]],
    contexts: Callable[[list[Record]], list[tuple[int, int]]],
    stopped: Callable[[], AbstractContextManager[Session]],
    lr_offset: int,
    cpu: Cpu,
) -> dict[int, tuple[Holder, ...]]:
    """Return, by id, who does not leave a patch: CPUs, or threads that share one with others.

    ``read(address, size)`` reads kernel memory; ``contexts`` gives (address, pc) of interrupted contexts
    inside; ``stopped`` stops the guest; ``lr_offset`` is LR's in the caller's frame. It may take seconds.
    """
    if not qemu.observable:
        return {}
    table = arena.table()
    entered = set(table.raw["id"][table.entered()].tolist())
    records = [one for one in table.records() if one.state in (PatchState.ACTIVE, PatchState.RETIRED)]
    if not records:
        return {}
    eyes, spent = _Eyes(read, threads(), lr_offset, cpu), qemu.process.cpu_seconds()
    first = _glances(qemu)
    goes_on = {pc for _, pc in contexts(records)}
    goes_on |= {at for row in first for glance in row for _, at in eyes.places(glance)}
    goes_on |= {at for thread in eyes.threads for _, at in returns(thread.sp, thread.stack.end, eyes.word)}
    looks = [_Look(record, spent) for record in records]
    looks = [look for look in looks if look.record.id in entered or any(at in look.body for at in goes_on)]
    open_looks, until, clock = looks, time.monotonic() + _LONGEST, 0
    while open_looks and time.monotonic() < until:
        rows = _glances(qemu)
        if not rows:
            continue
        if rows[-1][0].timebase == clock:
            return {}  # it stands still
        clock, spent = rows[-1][0].timebase, qemu.process.cpu_seconds()
        hits = {record.id: record.hits for record in arena.records()}
        for look in open_looks:
            look.add(rows, spent, hits.get(look.record.id, 0), eyes)
        open_looks = [look for look in open_looks if not look.settled(spent)]
    found = {look.record.id: (look.record, look.holders()) for look in looks}
    return {
        patch: holders
        for patch, (record, holders) in found.items()
        if holders and (record.counted or record.calls or not _left(qemu, stopped, record))
    }
