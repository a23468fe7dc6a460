"""What a kernel has loaded into its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kgdbpatch.errors import MemoryFault
from kgdbpatch.image.image import Image

if TYPE_CHECKING:
    from pathlib import Path

    from kgdbpatch.image.contents import Contents

__all__ = ["ModuleImage", "present"]

Read = Callable[[int, int], bytes]

_PAGE = 4096


def present(read: Read, address: int, size: int) -> bytes:
    """Return memory, page by page: what is not mapped (paged out, never touched) is zero."""
    pieces, end = [], address + size
    while address < end:
        count = min(end, (address | _PAGE - 1) + 1) - address
        try:
            pieces.append(read(address, count))
        except MemoryFault:
            pieces.append(bytes(count))
        address += count
    return b"".join(pieces)


class ModuleImage(Image):
    """A module by itself; its sections are called after it: ``NAME,.text``, others belong to nobody."""

    def __init__(self, name: str, path: Path, kind: str, sha256: str, contents: Contents, model: str) -> None:
        super().__init__(path, kind, sha256, contents, model)
        self.name = name
        self._own = [section for section in self.sections if section.name.startswith(f"{name},")]

    def module_at(self, address: int) -> str | None:
        """Return the module's name for an address in it."""
        return self.name if any(address in section for section in self._own) else None

    def symbolize(self, address: int) -> str:
        """Return ``func+0x18 [module]``."""
        told = super().symbolize(address)
        return told if self.module_at(address) is None else f"{told} [{self.name}]"

    def symbolize_all(self, addresses: Sequence[int]) -> list[str]:
        """Return what `symbolize` does, of many addresses."""
        return [self.symbolize(address) for address in addresses]
