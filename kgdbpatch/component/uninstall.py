"""Take the component out again: its mappings undone, its memory as it was before it was installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan
from kgdbpatch.vm.ram import Readable, Traced

if TYPE_CHECKING:
    from kgdbpatch.component.arena import Header
    from kgdbpatch.component.client import ComponentClient
    from kgdbpatch.component.ports import Cpu

__all__ = ["Before", "changed", "clear_notes", "unmap", "write_back"]

_MEMORY, _TABLE, _STATE = "before-memory", "before-table", "before-state"


@dataclass(frozen=True, slots=True)
class Before:
    """What the guest held where the component writes, as files in ``directory`` keep it.

    What was not kept counts as zeros: unused memory, BATs and page table entries that were not valid.
    """

    directory: Path

    def keep(self, ram: Traced, arena: ArenaPlan, table: range) -> None:
        """Keep the arena and the page table; call it while the guest stands still."""
        with (self.directory / _MEMORY).open("wb") as file:
            for start, end in _pieces(ram, arena):
                file.seek(start - arena.physical)
                file.write(ram.read(start, end - start))
            file.truncate(arena.size)
        (self.directory / _TABLE).write_bytes(ram.read(table.start, len(table)))

    @property
    def kept(self) -> bool:
        """Whether the arena was kept."""
        return (self.directory / _MEMORY).exists()

    def keep_state(self, state: bytes) -> None:
        """Keep the CPU's state, in the form of `Cpu.state`."""
        (self.directory / _STATE).write_bytes(state)

    def state(self, kind: np.dtype[np.void]) -> np.void:
        """Return the CPU's state."""
        kept: np.void = np.zeros(1, kind)[0]
        with suppress(OSError, ValueError):
            kept = np.frombuffer((self.directory / _STATE).read_bytes(), kind)[0]
        return kept

    def table(self, offset: int, size: int) -> bytes:
        """Return bytes of the page table."""
        return self._kept(_TABLE, offset, size)

    def memory(self, offset: int, size: int) -> bytes:
        """Return bytes of the arena."""
        return self._kept(_MEMORY, offset, size)

    def _kept(self, name: str, offset: int, size: int) -> bytes:
        kept = b""
        with suppress(OSError), (self.directory / name).open("rb") as file:
            kept = os.pread(file.fileno(), size, offset)
        return kept.ljust(size, b"\0")


def _pieces(ram: Traced, arena: ArenaPlan) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what was ever used of the arena."""
    for start, end in ram.touched():
        start, end = max(start, arena.physical), min(end, arena.physical + arena.size)
        if start < end:
            yield start, end


def changed(ram: Traced, arena: ArenaPlan, before: Before) -> list[tuple[int, bytes]]:
    """Return (physical address, bytes that stood there before) of all that was changed in the arena."""
    found: list[tuple[int, bytes]] = []
    for start, end in _pieces(ram, arena):
        old = before.memory(start - arena.physical, end - start)
        whole = -(-(end - start) // layout.PAGE) * layout.PAGE
        now = ram.read(start, end - start).ljust(whole, b"\0")
        pages = np.frombuffer(now, np.uint8) != np.frombuffer(old.ljust(whole, b"\0"), np.uint8)
        differs = pages.reshape(-1, layout.PAGE).any(axis=1).astype(np.int8)
        edges = np.flatnonzero(np.diff(differs, prepend=0, append=0)).reshape(-1, 2) * layout.PAGE
        for first, behind in edges.tolist():
            found.append((start + first, old[first : min(behind, end - start)]))
    return found


def clear_notes(write: Callable[[int, bytes], None], ram: Readable, arena: ArenaPlan, code: bytes) -> None:
    """Zero what would be taken for notes of calls of the kernel, unless the component's ``code`` is there."""
    if ram.read(arena.physical + layout.STUB_OFFSET, len(code)) == code:
        return  # they are those of a client that died
    start, size = arena.physical + layout.KEPT_OFFSET, layout.KERNEL_CALL_CODE_OFFSET - layout.KEPT_OFFSET
    if any(ram.read(start, size)):
        write(start, bytes(size))


def unmap(client: ComponentClient, cpu: Cpu, ram: Readable, header: Header, before: Before) -> None:
    """Undo the arena's mappings in one stop; no patch may be in its table.

    Raises `Refused` (rule ``memory``) while the table has one.
    """
    arena = client.arena(header.arena)
    with client.stop(header.arena) as stop:
        if len(arena.table()):
            raise Refused("memory", "patches are still in the guest")
        state = client.state(header.arena, stop)
        commands = cpu.unmapping(header.arena, header.entries, state, ram, before)
        stop.elsewhere(commands)
        stop.obey(commands)


def write_back(write: Callable[[int, bytes], None], pieces: list[tuple[int, bytes]]) -> None:
    """Write pieces of memory; the arena's beginning, which says that something is there, comes first."""
    for at, data in sorted(pieces):
        write(at, data)
