"""A guest's memory by address: where it lies in RAM, read while the guest runs wherever that can be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.component.layout import SPRINGBOARD_OFFSET
from kgdbpatch.errors import ComponentDamaged, MemoryFault, Misuse
from kgdbpatch.kernel.inspecting import leave_process

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.naming import NamedGuest
    from kgdbpatch.kernel.typed import TypedValue
    from kgdbpatch.kernel.writing import Written
    from kgdbpatch.personality.base import ArenaPlan
    from kgdbpatch.types import KernelTypes
    from kgdbpatch.variables import Value
    from kgdbpatch.vm.gdb import Session

__all__ = ["GuestMemory", "Span"]

_PAGE = 4096
_SPACE = 1 << 32
_PHYSICAL = re.compile(r"gpa: 0x([0-9a-f]+)")


class Span(NamedTuple):
    """A piece of RAM: its physical address, bytes."""

    physical: int
    size: int


class GuestMemory:
    """Memory as the kernel maps it, or by physical address; of dead and paused guests too.

    The kernel's own memory, what its page tables map, modules and the memory of patches are read through the
    guest's RAM without a stop. For other addresses the guest is stopped once and its MMU asked.

    >>> kernel.memory.read(kernel.places.address("linux_banner"), 13)
    b'Linux version'
    """

    def __init__(self, guest: NamedGuest) -> None:
        self._guest = guest

    @cached_property
    def _arena(self) -> ArenaPlan | None:
        try:
            header = self._guest._text.header()
        except ComponentDamaged:
            return None
        return None if header is None else header.arena

    def physical(self, address: int) -> int | None:
        """Return where the memory at an address is, as far as that is known without a stop, or None."""
        found = self._of_patches(address)
        if found is not None:
            return found
        threads = self._guest._threads
        found = threads.to_physical(address)
        return threads.physical(address) if found is None else found

    def _of_patches(self, address: int) -> int | None:
        arena = self._arena
        if arena is None:
            return None
        near, boards, tails = arena.near, arena.springboards, arena.tails
        if near is not None and near.start <= address < near.end:
            address -= arena.near_shift
        if boards is not None and boards.start <= address < boards.end:
            return arena.physical + SPRINGBOARD_OFFSET + address - boards.start
        if tails is not None and tails.start <= address < tails.end:
            return address - tails.start
        inside = 0 <= address - arena.virtual < arena.size
        return address - arena.virtual + arena.physical if inside else None

    def spans(self, address: int, size: int, *, physical: bool = False) -> list[Span]:
        """Return the pieces of RAM that memory lies in; raise `MemoryFault` where there is none of it.

        What is no RAM, a device's registers, is never read: that can change the device.
        """
        if size < 1:
            raise Misuse("at least one byte is to be given")
        if not 0 <= address < _SPACE or address + size > _SPACE:
            told = f"{size} bytes from 0x{address:x} on go beyond the 32-bit address space"
            raise MemoryFault(told, min(max(address, 0), _SPACE - 1))
        found: list[Span] = []
        for at, place, count in self._pages(address, size, physical):
            if place + count > self._guest.qemu.ram.size:
                raise self._fault(address, at, place, physical=physical)
            if found and found[-1].physical + found[-1].size == place:
                found[-1] = Span(found[-1].physical, found[-1].size + count)
            else:
                found.append(Span(place, count))
        return found

    def check(self, address: int, size: int, spans: Sequence[Span]) -> None:
        """Raise `MemoryFault` where memory lies elsewhere than in ``spans`` by now, as far as is known."""
        at = address
        for start, count in spans:
            for place in (start, *range((start | _PAGE - 1) + 1, start + count, _PAGE)):
                found = self.physical(at + place - start)
                if found not in (place, None):
                    raise MemoryFault(f"0x{at:08x} was mapped elsewhere just now: try again", at)
            at += count

    def _pages(self, address: int, size: int, physical: bool) -> Iterator[tuple[int, int, int]]:
        """Yield (address, physical address, bytes) page by page; the guest is stopped where need be."""
        if physical:
            yield address, address, size
            return
        with ExitStack() as stack:
            session, at = None, address
            while at < address + size:
                count = min(_PAGE - at % _PAGE, address + size - at)
                place = self.physical(at)
                if place is None:
                    session = session or stack.enter_context(self._stopped())
                    match = _PHYSICAL.search(session.monitor(f"gva2gpa 0x{at:x}"))
                    place = int(match[1], 16) if match else None
                if place is None:
                    raise self._fault(address, at)
                yield at, place, count
                at += count

    def _fault(self, start: int, at: int, place: int | None = None, *, physical: bool = False) -> MemoryFault:
        before = f"; the {at - start} bytes before it are" if at > start else ""
        size = self._guest.qemu.ram.size
        if physical:
            why = f"the guest has no RAM at physical 0x{max(start, size):08x}: it has 0x{size:x} bytes"
            return MemoryFault(why, start)
        if place is None:
            return MemoryFault(f"the kernel has no memory mapped at 0x{at:08x}{before}", at)
        why = f"0x{at:08x} is mapped to physical 0x{place:08x}: no RAM, but a device, which is left alone"
        return MemoryFault(f"{why}{before and before + ' memory'}", at)

    @contextmanager
    def _stopped(self) -> Iterator[Session]:
        guest = self._guest
        guest._assure_answers()
        with guest.stopped() as session:
            leave_process(guest._cpu, session)
            yield session

    def read(self, address: int, size: int, *, physical: bool = False) -> bytes:
        """Return bytes as they are now; raise `MemoryFault` for what is not mapped, and for devices."""
        read = self._guest.qemu.ram.read
        return b"".join(read(*span) for span in self.spans(address, size, physical=physical))

    def string(self, address: int, most: int = 4096, *, physical: bool = False) -> bytes:
        """Return bytes up to a NUL, at most so many; memory may end behind it."""
        found = b""
        while len(found) < most:
            at = address + len(found)
            part = self.read(at, min(_PAGE - at % _PAGE, most - len(found)), physical=physical)
            text, nul, _ = part.partition(b"\0")
            found += text
            if nul:
                break
        return found

    def types(self, symbols: str | Path | None = None) -> KernelTypes:
        """Return the kernel's C types, told in its file, beside it or in ``symbols``; or `BadImage`."""
        from kgdbpatch.types import KernelTypes

        return KernelTypes.of(self._guest._image, None if symbols is None else Path(symbols))

    def read_as(
        self,
        type_: str,
        address: int,
        count: int = 1,
        *,
        physical: bool = False,
        symbols: str | Path | None = None,
    ) -> list[TypedValue]:
        """Return ``count`` values of a type, one behind the other.

        That is ``u32``, ``string``, ``struct task_struct``, ``char [16]``, ``void *``, and so on. Plain
        types need no debug information. Raises `UnknownSymbol` with near names, `BadImage`, `MemoryFault`.

        >>> kernel.memory.read_as("u32", kernel.places.address("jiffies"))[0].value
        4294958000
        """
        from kgdbpatch.kernel.typed import read_values

        return read_values(self, type_, address, count, physical, lambda: self.types(symbols))

    def write(
        self,
        address: int,
        *values: Value,
        type_: str = "u32",
        expect: Sequence[Value] | None = None,
        physical: bool = False,
        force: bool = False,
        room: int | None = None,
        symbols: str | Path | None = None,
    ) -> Written:
        """Write values of a type, one behind the other; return what was there before and what is now.

        With ``expect`` nothing is written unless these are there now: compared and written in one stop. One
        number of 1, 2, 4 or 8 bytes at a multiple of that is written without one where the RAM is shared.
        Text is taken as people write values. Raises `Refused` for the kernel's text, constants, and more than
        ``room`` bytes, unless ``force``, for the component's memory and sites of patches always;
        `MemoryFault`, `DeadKernel`.
        """
        from kgdbpatch.kernel.writing import Writer

        kernel: Kernel = self._guest  # type: ignore[assignment]
        writer = Writer(kernel, self, lambda: self.types(symbols))
        return writer.write(address, values, type_, expect, physical=physical, force=force, room=room)
