"""A Linux kernel's memory by virtual address: its linear map, and what its own page tables map."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import MemoryFault
from kgdbpatch.personality.base import Window
from kgdbpatch.personality.linux.pages import TABLE_SHIFT, frames

__all__ = ["PAGE", "KernelMemory"]

PAGE = 4096
_MOST = 64 << 20  # bytes that lie in one piece: a module is not larger

Read = Callable[[int, int], bytes]


class KernelMemory:
    """What a kernel maps for itself.

    ``read(physical, size)`` reads guest memory, ``directory`` is the physical address of the kernel's page
    directory, ``base`` what addresses of the linear map, ``size`` bytes of it, are more than physical ones.
    """

    def __init__(self, read: Read, directory: int, base: int, size: int) -> None:
        self._read, self._directory, self._base, self._size = read, directory, base, size

    def linear(self, address: int) -> bool:
        """Tell whether an address is in the linear map."""
        return 0 <= address - self._base < self._size

    def physical(self, address: int) -> int | None:
        """Return where the memory at an address is, None where there is none."""
        if self.linear(address):
            return address - self._base
        if not 0 <= address < 1 << 32:
            return None
        (frame,) = frames(
            self._read, self._directory, self._base, Window(address & -PAGE, (address | PAGE - 1) + 1)
        )
        return None if not frame else int(frame) | address & PAGE - 1

    def addresses(self, physical: int) -> list[int]:
        """Return the addresses outside of the linear map at which the page tables map a byte of RAM."""
        found: list[int] = []
        directory = np.frombuffer(self._read(self._directory, PAGE), ">u4")
        for index in np.flatnonzero(directory).tolist():
            part = Window(index << TABLE_SHIFT, (index + 1) << TABLE_SHIFT)
            if self.linear(part.start) and self.linear(part.end - 1):
                continue
            pages = np.flatnonzero(self.frames(part) == physical & -PAGE)
            found += [part.start + PAGE * page + physical % PAGE for page in pages.tolist()]
        return [address for address in found if not self.linear(address)]

    def read(self, address: int, size: int) -> bytes:
        """Return bytes; raise `MemoryFault` where there is no memory."""
        pieces: list[bytes] = []
        while size > 0:
            physical = self.physical(address)
            if physical is None:
                raise MemoryFault(f"the kernel has no memory mapped at 0x{address:08x}", address)
            count = min(size, PAGE - address % PAGE)
            pieces.append(self._read(physical, count))
            address, size = address + count, size - count
        return b"".join(pieces)

    def word(self, address: int) -> int:
        """Return the word at an address; or `MemoryFault`."""
        return int.from_bytes(self.read(address, 4), "big")

    def run(self, start: int) -> Window:
        """Return what is mapped in one piece from the page at ``start`` on; it is empty where nothing is.

        Behind each piece that it gives to somebody the kernel leaves a page unmapped.
        """
        end, limit = start, min(start + _MOST, 1 << 32)
        while end < limit:
            part = Window(end, min((end | (1 << TABLE_SHIFT) - 1) + 1, limit))  # what one page table maps
            found = frames(self._read, self._directory, self._base, part)
            holes = np.flatnonzero(found == 0)
            if holes.size:
                return Window(start, end + int(holes[0]) * PAGE)
            end = part.end
        return Window(start, end)

    def frames(self, window: Window) -> npt.NDArray[np.uint32]:
        """Return the physical address of each page of a window (multiples of pages), 0 for none."""
        return frames(self._read, self._directory, self._base, window)

    def digest(self, window: Window) -> int:
        """Return the CRC-32 of where the pages of a window are."""
        return zlib.crc32(self.frames(window).astype(">u4").tobytes())
