"""Pages that a Linux kernel maps where it is told to: its own page tables, filled by somebody else."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.personality.base import KernelCall, Window
from kgdbpatch.personality.linux.tables import address_of

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["TABLE_SHIFT", "LinuxPager", "first_mapped", "frames"]

_PAGE_SHIFT = 12
_PAGE = 1 << _PAGE_SHIFT
TABLE_SHIFT = 22  # one entry of the page directory maps 4 MiB (4 KiB pages, 32-bit entries)
_BITS = _PAGE - 1

Read = Callable[[int, int], bytes]


def first_mapped(
    read: Read, directory: int, base: int, window: Window, *, exactly: bool, wide: bool = False
) -> int | None:
    """Return the first address in a window that the kernel's page directory maps, or None.

    ``directory`` is its physical address, ``base`` what addresses of the linear map are more than physical
    ones. Unless ``exactly``, a page table will do although it is empty. Pages' entries have 64 bits where
    they are ``wide``.
    """
    shift, kind = (TABLE_SHIFT - 1, ">u8") if wide else (TABLE_SHIFT, ">u4")
    first, behind = window.start >> shift, -(-window.end >> shift)
    entries = struct.unpack(f">{behind - first}I", read(directory + 4 * first, 4 * (behind - first)))
    for index, entry in enumerate(entries, start=first):
        at = index << shift
        if entry and not exactly:
            return at
        pages = np.frombuffer(read(_table(entry, base), _PAGE), kind) if entry else np.zeros(0)
        for page in np.flatnonzero(pages).tolist():
            if window.start <= at + (page << _PAGE_SHIFT) < window.end:
                return int(at + (page << _PAGE_SHIFT))
    return None


def frames(read: Read, directory: int, base: int, window: Window) -> npt.NDArray[np.uint32]:
    """Return the physical addresses of the pages of a window, 0 of those that are not mapped.

    ``directory`` and ``base`` as for `first_mapped`. What the kernel maps for itself is never at 0, which
    is its own text: an entry that has lost its page may keep some bits.
    """
    found = np.zeros((window.end - window.start) >> _PAGE_SHIFT, np.uint32)
    at = window.start
    while at < window.end:
        end = min((at | (1 << TABLE_SHIFT) - 1) + 1, window.end)
        entry = int.from_bytes(read(directory + 4 * (at >> TABLE_SHIFT), 4), "big")
        if entry:
            first = at >> _PAGE_SHIFT & (1 << TABLE_SHIFT - _PAGE_SHIFT) - 1
            raw = read(_table(entry, base) + 4 * first, 4 * ((end - at) >> _PAGE_SHIFT))
            begin = (at - window.start) >> _PAGE_SHIFT
            found[begin : begin + len(raw) // 4] = np.frombuffer(raw, ">u4") & np.uint32(~_BITS & 0xFFFF_FFFF)
        at = end
    return found


def _table(entry: int, base: int) -> int:
    """Return where a page table is, by its entry in the directory: a physical address, or a linear one."""
    at = entry & ~_BITS
    return at - base if at >= base else at


class LinuxPager:
    """Fills the page tables of a kernel whose page directory is at the physical address ``directory``.

    ``read`` reads physical memory, ``base`` as for `first_mapped`.
    """

    def __init__(self, image: Image, read: Read, directory: int, base: int) -> None:
        self._image, self._read, self._directory, self._base = image, read, directory, base

    @classmethod
    def of(cls, image: Image, read: Read, directory: int, base: int) -> LinuxPager | None:
        """Return one, or None for a kernel that lacks a function that is needed."""
        pager = cls(image, read, directory, base)
        needed = (pager._allocator(), address_of(image, "vfree"), address_of(image, "__pte_alloc_kernel"))
        return None if None in needed else pager

    def _allocator(self) -> KernelCall | None:
        for name, arguments in (("module_alloc", (_PAGE,)), ("execmem_alloc", (0, _PAGE))):  # EXECMEM_DEFAULT
            at = address_of(self._image, name)
            if at is not None:
                return KernelCall(at, arguments)
        return None

    def sample(self) -> KernelCall:
        """Return the call that allocates a page, to see how the kernel maps it."""
        call = self._allocator()
        assert call is not None  # as is known by `of`
        return call

    def free(self, page: int) -> KernelCall:
        """Return the call that frees it."""
        at = address_of(self._image, "vfree")
        assert at is not None  # as is known by `of`
        return KernelCall(at, (page,))

    def tables(self, window: Window) -> Sequence[KernelCall]:
        """Return the calls that have the kernel allocate the page tables that it lacks for a window."""
        at = address_of(self._image, "__pte_alloc_kernel")
        pointers = self._image.lookup("swapper_pg_dir")
        assert at is not None  # as is known by `of`
        return [
            KernelCall(at, (pointers + 4 * index, index << TABLE_SHIFT))
            for index in range(window.start >> TABLE_SHIFT, -(-window.end >> TABLE_SHIFT))
            if not self._word(self._directory + 4 * index)
        ]

    def entries(
        self, window: Window, physical: int, page: int, *, executed: bool = False
    ) -> list[tuple[int, bytes]]:
        """Return what to write where (physical) so that a window shows memory from ``physical`` on.

        It is mapped as ``page`` is, and if code is ``executed`` there, as the kernel's text is besides. Empty
        where there is no table, or that is not mapped.
        """
        at = self._place(page)
        bits = self._word(at) & _BITS if at is not None else 0
        bits |= self._text_bits(page) if bits and executed else 0
        found: list[tuple[int, bytes]] = []
        for start in range(window.start, window.end, 1 << TABLE_SHIFT) if bits else ():
            place, end = self._place(start), min(start + (1 << TABLE_SHIFT), window.end)
            if place is None:
                return []
            frames = np.arange(start, end, _PAGE, dtype=np.int64) - window.start + physical
            found.append((place, (frames | bits).astype(">u4").tobytes()))
        return found

    def _text_bits(self, page: int) -> int:
        """Return what the entries of the kernel's text say; 0 where that has none: all memory is executable.

        So it is where the text is mapped in larger pieces, each of which has an entry of the directory for
        itself: that looks otherwise than a table's, such as ``page`` has.
        """
        text = next(iter(self._image.code_sections())).address
        ours, theirs = (self._word(self._directory + 4 * (at >> TABLE_SHIFT)) for at in (page, text))
        place = self._place(text) if ours & _BITS == theirs & _BITS else None
        return 0 if place is None else self._word(place) & _BITS

    def _word(self, physical: int) -> int:
        return int.from_bytes(self._read(physical, 4), "big")

    def _place(self, address: int) -> int | None:
        """Return where the entry of an address is; None without a page table."""
        entry = self._word(self._directory + 4 * (address >> TABLE_SHIFT))
        index = address >> _PAGE_SHIFT & (1 << TABLE_SHIFT - _PAGE_SHIFT) - 1
        return _table(entry, self._base) + 4 * index if entry else None
