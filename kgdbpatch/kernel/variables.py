"""Variables of a patch's payload by name, as a mapping: read and written while the guest runs."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.component.data import mark_called, write_data
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.kernel.patch_names import Noted, PatchNames, pointed_to, title
from kgdbpatch.results import PatchState
from kgdbpatch.variables.path import Place, full_name, locate
from kgdbpatch.variables.shape import Shape
from kgdbpatch.variables.values import Value, from_bits, from_bytes, to_bits, to_bytes

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel

__all__ = ["PatchVariable", "PatchVariables"]

_TRIES = 3  # at reading while patches come and go


@dataclass(frozen=True, slots=True)
class PatchVariable:
    """A variable of a payload, or a part of one, and what it was when it was read."""

    name: str
    type: str
    address: int
    size: int
    constant: bool
    value: Value
    shape: Shape


class PatchVariables(MutableMapping[str, Value]):
    """The variables of one patch's payload; the guest is not stopped where its RAM is shared.

    A key is ``hits``, ``stats.count[3]``, or ``probe::count`` for a static one that has no name of its own.
    Numbers are `int`, arrays of char `str`, other arrays lists, structures dicts. Raises `UnknownSymbol` with
    near names, `Misuse` for what has none, and for values out of range, `Refused` (rule ``constant``).

    >>> with kernel.patch("run_netisr", c="examples/packet_counter.c") as patch:
    ...     patch.variables["counter"] = 0
    """

    def __init__(self, kernel: Kernel, patch_id: int) -> None:
        self._kernel, self._id = kernel, patch_id

    def __repr__(self) -> str:
        return f"PatchVariables({', '.join(self)} of patch {self._id})"

    def _noted(self) -> Noted:
        """Return the patch as it stands in the table now."""
        record = next((one for one in self._kernel.records() if one.id == self._id), None)
        if record is None:
            raise Misuse(f"the guest has no patch {self._id}")
        names = PatchNames(self._kernel._component.arena(self._kernel._header().arena))
        found = next(names.read([record]), None)
        if found is None or not (found.note.variables or found.note.functions):
            raise Misuse(f"patch {self._id} keeps no variables: its payload is not of C")
        return found

    def _place(self, found: Noted, key: str) -> tuple[Place, int]:
        place = locate(key, found.note, title(self._id, found.name))
        return place, found.payload + place.offset

    def _read(self, found: Noted, address: int, size: int) -> bytes:
        kernel = self._kernel
        arena = kernel._component.arena(kernel._header().arena)
        assert found.record.body <= address <= address + size <= found.record.body + found.record.body_size
        return arena.read(address, size)

    def describe(self, key: str) -> PatchVariable:
        """Return a variable, or a part of one, with type, place and value."""
        for _ in range(_TRIES):
            found = self._noted()
            place, address = self._place(found, key)
            size = -(-(place.bit + place.bits) // 8) if place.bits else place.shape.size
            data = self._read(found, address, size)
            if self._noted().record.body == found.record.body:  # it was still there
                break
        value = (
            from_bits(place.shape, data, place.bit, place.bits)
            if place.bits
            else from_bytes(place.shape, data)
        )
        return PatchVariable(
            key, place.shape.text, address, size, place.variable.constant, value, place.shape
        )

    def address(self, key: str) -> int:
        """Return where a variable, or a part of one, is."""
        return self._place(self._noted(), key)[1]

    def shape(self, key: str) -> Shape:
        """Return the type of a variable, or of a part of one."""
        return self._place(self._noted(), key)[0].shape

    def __getitem__(self, key: str) -> Value:
        return self.describe(key).value

    def __setitem__(self, key: str, value: Value) -> None:
        kernel = self._kernel
        with kernel._exclusive():
            header, found = kernel.header, self._noted()
            place, address = self._place(found, key)
            if found.record.state in (PatchState.RETIRED, PatchState.UNLOADED):
                raise Misuse(f"patch {self._id} is {found.record.state}: nothing of it is written any more")
            if place.variable.constant:
                raise Refused("constant", f"'{place.variable.name}' of patch {self._id} is constant", address)
            size = -(-(place.bit + place.bits) // 8) if place.bits else place.shape.size
            before = self._read(found, address, size)
            data = (
                to_bits(place.shape, value, before, place.bit, place.bits)
                if place.bits
                else to_bytes(place.shape, value, before)
            )
            component, ram = kernel._component, kernel._qemu.ram
            arena = component.arena(header.arena)
            for other in pointed_to(PatchNames(arena), place, data):
                mark_called(component, arena, ram, other.record)
            write_data(component, arena, ram, address, data)

    def __delitem__(self, key: str) -> None:
        raise Misuse(f"'{key}' is the payload's: it goes with its patch")

    def __iter__(self) -> Iterator[str]:
        every = self._noted().note.variables
        yield from (full_name(one, every) for one in every if one.offset is not None)

    def __len__(self) -> int:
        return sum(one.offset is not None for one in self._noted().note.variables)
