"""Places of a guest by name and by address: the kernel's, its modules', and those of its patches' code."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.errors import ComponentDamaged, KgdbPatchError, Misuse
from kgdbpatch.image.named import NamedPlace, symbol_at

if TYPE_CHECKING:
    from kgdbpatch.component.table import Record
    from kgdbpatch.kernel.naming import NamedGuest
    from kgdbpatch.kernel.patch_names import Noted

__all__ = ["Places"]

_OURS = re.compile(r"(springboard of )?patch (\d+)(?:\+(0x[0-9a-f]+))?")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{4,8}\b(?! <)")
_PART = re.compile(r"(?P<name>[\w.-]+:[\w.$:\[\]]+?)(?:\+(?P<offset>0x[0-9a-f]+|\d+))?")


class Places:
    """What is where in a guest, patches as they stood when it was first asked; a dead guest's too."""

    def __init__(self, guest: NamedGuest) -> None:
        self._guest = guest
        self._image = guest.image

    @cached_property
    def records(self) -> list[Record]:
        """The patch table; empty where it cannot be read."""
        try:
            return self._guest.records()
        except ComponentDamaged:
            return []

    @cached_property
    def _noted(self) -> list[Noted]:
        with suppress(KgdbPatchError):  # without a component, or damaged
            return [*self._guest.patch_names().read(self.records)] if self.records else []
        return []

    @cached_property
    def updated(self) -> list[tuple[int, int, str, str]]:
        """The new functions of updates: where each begins and ends, its name, that of the update."""
        from kgdbpatch.kernel.updating import standing

        if not any(one.update for one in self.records):
            return []
        arena = self._guest._component.arena(self._guest._header().arena)
        found = standing(self.records, lambda body, size: arena.read(body, size))
        return [(start, end, name, one.row.name) for one in found for start, end, name in one.new]

    @cached_property
    def patches(self) -> list[NamedPlace]:
        """The bodies and springboards of patches."""
        found = []
        for one in self.records:
            if one.body_size:
                found.append(NamedPlace(f"patch {one.id}", one.body, one.body_size, (), "", "patch"))
            if one.springboard is not None:
                size = SPRINGBOARD_SIZE * one.springboard_slots
                name = f"springboard of patch {one.id}"
                found.append(NamedPlace(name, one.springboard, size, (), "", "patch"))
        return found

    def patch_at(self, address: int) -> NamedPlace | None:
        """Return the body or springboard that an address is in."""
        inside = (one for one in self.patches if one.address <= address < one.address + one.size)
        return next(inside, None)

    def is_variable(self, address: int) -> bool:
        """Tell whether an address is in a variable of a patch's payload."""
        for one in self._noted:
            at = address - one.payload
            named = ((each.offset, each.shape.size) for each in one.note.variables)
            if any(start is not None and start <= at < start + size for start, size in named):
                return True
        return False

    def at(self, address: int) -> NamedPlace | None:
        """Return what an address is in; None for nothing that has a name."""
        return self.patch_at(address) or symbol_at(self._image, address)

    def name(self, address: int) -> str:
        """Return ``func+0x18``, ``3:serve+0x10``, ``patch 3+0x8``, or ``0x…`` where nothing has a name."""
        ours = self.patch_at(address)
        if ours is None:
            return self._image.symbolize(address)
        for one in self._noted:
            if one.record.body <= address < one.record.body + one.record.body_size:
                return one.symbolize(address)
        begin, name = ours.address, ours.name
        for start, end, function, update in self.updated:
            if start <= address < end:
                begin, name = start, f"{update}:{function}"
        return f"{name}+0x{address - begin:x}" if address > begin else name

    def annotated(self, text: str) -> str:
        """Return a text with names behind those addresses in it that are in patches."""

        def named(match: re.Match[str]) -> str:
            address = int(match[0], 16)
            return match[0] if self.patch_at(address) is None else f"{match[0]} <{self.name(address)}>"

        return _ADDRESS.sub(named, text) if self.patches else text

    def address(self, text: str) -> int:
        """Return the address of a place: as `name` spells it, ``func+0x18``, a number; ``file:name``.

        Raises `Misuse`, or `UnknownSymbol` with near names.
        """
        ours = _OURS.fullmatch(text.strip())
        if ours is not None:
            name = f"{ours[1] or ''}patch {int(ours[2])}"
            start = next((one.address for one in self.patches if one.name == name), None)
            if start is None:
                raise Misuse(f"the guest has no {name}")
            return start + int(ours[3] or "0", 16)
        try:
            return self._image.resolve(text)
        except Misuse as error:
            match = _PART.fullmatch(text.strip())
            name = match["name"] if match else text.strip()
            new = (start for start, _, one, update in self.updated if name == f"{update}:{one}")
            with suppress(KgdbPatchError, StopIteration):
                return next(new) + int((match and match["offset"]) or "0", 0)
            with suppress(KgdbPatchError):
                start = self._guest.patch_names().lookup(name)[0]
                return start + int((match and match["offset"]) or "0", 0)
            raise error

    def room(self, text: str, address: int) -> int | None:
        """Return the bytes from a place on that the symbol has which it is spelt by; None if nobody tells."""
        name = text.partition("+")[0].strip()
        known = self.at(address)
        if known is None or not known.size or not known.address <= address < known.address + known.size:
            return None
        prefix = self._image.symbol_prefix
        named = {name, prefix + name} & set(known.names)
        return known.address + known.size - address if named else None
