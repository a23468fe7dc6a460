"""The kernel's threads as its profile finds them: what a patch's memory is held by, which stacks are dead."""

from __future__ import annotations

from collections.abc import Iterable

from kgdbpatch.answers import Holder
from kgdbpatch.component import Component, Header
from kgdbpatch.component.holders import holders
from kgdbpatch.component.table import Record
from kgdbpatch.guests.profile import Profile, Thread, Window
from kgdbpatch.image import Image
from kgdbpatch.target.qemu import Qemu
from kgdbpatch.target.registers import GRegisters

__all__ = ["Threads", "below_sleepers"]

_PR = 0x4000  # MSR: the CPU runs a process


class Threads:
    """The threads of one guest; nothing is known of a kernel whose profile finds none."""

    def __init__(self, qemu: Qemu, profile: Profile, image: Image) -> None:
        self._qemu, self._profile, self._image = qemu, profile, image

    def _read(self, address: int, size: int) -> bytes | None:
        ram, physical = self._qemu.ram, self._profile.stack_physical(self._image, address)
        return ram.read(physical, size) if physical is not None and physical + size <= ram.size else None

    def _word(self, address: int) -> int | None:
        data = self._read(address, 4)
        return None if data is None else int.from_bytes(data, "big")

    def _all(self) -> Iterable[Thread]:
        return self._profile.threads(self._image, self._read)

    def holders(
        self, component: Component, header: Header, records: list[Record], shift: int
    ) -> dict[int, tuple[Holder, ...]]:
        """Return what holds the retired ones of ``records``, by id; ``shift`` is the linear map's."""
        retired = [record for record in records if record.status == "retired"]
        contexts = [(at + shift, pc) for at, pc in component.contexts(header, retired)]
        return holders(component.arena(header.arena), records, self._all(), self._word, contexts)

    def dead_stacks(self, registers: GRegisters) -> list[tuple[int, int]]:
        """Return the physical ranges of kernel stacks to which no thread comes back."""
        ranges = []
        for dead in below_sleepers(self._all(), registers):
            low = self._profile.stack_physical(self._image, dead.start)
            last = self._profile.stack_physical(self._image, dead.end - 1)
            if low is not None and last == low + (dead.end - 1 - dead.start):
                ranges.append((low, last + 1))
        return ranges


def below_sleepers(threads: Iterable[Thread], registers: GRegisters) -> list[Window]:
    """Return the parts of kernel stacks below what each thread left its stack at when it last slept.

    The running thread may have got deeper since: it is the one whose stack the CPU's stack pointer
    is in. Where that is in none (the kernel is about to change stacks), nothing is known. A CPU in
    a process has left the kernel's stacks.
    """
    known = [thread for thread in threads if thread.stack.start < thread.sp <= thread.stack.end]
    if not registers["msr"] & _PR:
        sp = registers["r1"]
        sleeping = [thread for thread in known if not thread.stack.start <= sp < thread.stack.end]
        known = sleeping if len(sleeping) < len(known) else []
    return [Window(thread.stack.start, thread.sp) for thread in known]
