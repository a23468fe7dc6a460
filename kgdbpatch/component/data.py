"""Write what is a patch's own: the data of its payload, what its record says of how it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena, field_offset
from kgdbpatch.component.layout import Flag, Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.table import Record
from kgdbpatch.vm.ram import Readable, Shared

if TYPE_CHECKING:
    from kgdbpatch.component.client import ComponentClient

__all__ = ["mark_called", "write_data"]

_FLAGS = field_offset("flags", layout.RECORD)


def write_data(component: ComponentClient, arena: Arena, ram: Readable, virtual: int, data: bytes) -> None:
    """Write data of a payload of ``arena``, which goes on running where the guest's RAM is shared.

    Of 1, 2, 4 or 8 bytes at a multiple of that, the guest sees all or nothing.
    """
    _write(component, arena, ram, arena.inside(virtual), data)


def mark_called(component: ComponentClient, arena: Arena, ram: Readable, record: Record) -> None:
    """Note that others than its site may call a patch's functions: its memory comes back accordingly."""
    at = arena.slot(record.slot) + _FLAGS
    flags = int.from_bytes(ram.read(at, 2), "big")
    if not flags & Flag.CALLED:
        _write(component, arena, ram, at, (flags | Flag.CALLED).to_bytes(2, "big"))


def _write(component: ComponentClient, arena: Arena, ram: Readable, physical: int, data: bytes) -> None:
    if isinstance(ram, Shared):
        ram.write(physical, data)
        return
    with component.stop(arena.plan, anywhere=True) as stop:
        stop.write(physical, data)
        stop.call([Command(Op.FLUSH, physical, len(data))])
