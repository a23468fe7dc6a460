"""What a Linux kernel's file says of how it was configured, and of its linear map.

Distributors' kernels do not carry their configuration. What page tables look like, and from where on they are
the kernel's own, is then told by the code that looks pages up for the hash table (`hash_page`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage
from kgdbpatch.personality.linux.tables import address_of

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = [
    "PAGE_SHIFT",
    "entries_are_small",
    "kernel_option",
    "linear_offset",
    "lowmem",
    "order",
    "processes_end",
]

PAGE_SHIFT = 12
_LOWMEM = 0x3000_0000  # bytes of the linear map at most, as kernels are configured (CONFIG_LOWMEM_SIZE)
_DIRECTORY = "swapper_pg_dir"
_LOOKUP, _LOOKUP_WORDS = "hash_page", 48  # arch/powerpc/mm/book3s32/hash_low.S; the address is in r4
_COMPARE, _COMPARED = 0x7C04_0040, 0xFFFF_07FF  # cmplw r4,rB
_ADDIS, _LIS_R5, _ADDI_R5 = 15, 0x3CA0, 0x38A5
_SMALL, _WIDE = 0x5085_653A, 0x5488_6CFA  # rlwimi r5,r4,12,20,29; rlwinm r8,r4,13,19,29: into the directory
_IKCONFIG = re.compile(rb"IKCFG_ST(\x1f\x8b.*?)IKCFG_ED", re.DOTALL)


def kernel_option(image: Image, name: str) -> str | None:
    """Return the value of ``CONFIG_<name>`` in the configuration the kernel carries, or None."""
    return _options(image).get(name)


@lru_cache(maxsize=4)
def _options(image: Image) -> dict[str, str]:
    data = (section.data for section in image.sections if not section.executable)
    held = next(filter(None, map(_IKCONFIG.search, data)), None)
    if held is None:
        return {}
    import gzip

    try:
        text = gzip.decompress(held[1]).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadImage(image.path, f"the kernel's own configuration is damaged: {error}") from error
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE))


def processes_end(image: Image) -> int | None:
    """Return from where on addresses are no process's (CONFIG_TASK_SIZE), None where that is not known."""
    told = kernel_option(image, "TASK_SIZE")
    if told is not None:
        return int(told, 0)
    found = _by_lookup(image)
    return None if found is None else found[0]


def entries_are_small(image: Image) -> bool | None:
    """Tell whether page tables' entries have 32 bits, not 64 (CONFIG_PTE_64BIT); None: not known.

    A directory of entries that are larger has twice as many pages.
    """
    if kernel_option(image, "TASK_SIZE") is not None:
        return kernel_option(image, "PTE_64BIT") != "y"
    found, directory = _by_lookup(image), image.symbols.last((_DIRECTORY,)).get(_DIRECTORY)
    if found is None:
        return True if directory is not None and directory.size == 1 << PAGE_SHIFT else None
    return found[1]


@lru_cache(maxsize=4)
def _by_lookup(image: Image) -> tuple[int, bool] | None:
    """Return from which address on `hash_page` takes the kernel's page directory, and whether it is small.

    It compares the address with the first that is the kernel's: below, the process's directory is taken.
    """
    start, directory = address_of(image, _LOOKUP), address_of(image, _DIRECTORY)
    section = None if start is None else image.section_at(start)
    if start is None or directory is None or section is None or not section.executable:
        return None
    data = section.data[start - section.address :][: 4 * _LOOKUP_WORDS]
    words = [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data) & ~3, 4)]
    high, low = directory + 0x8000 >> 16, directory & 0xFFFF
    taken = {high << 16, (directory - linear_offset(image) + 0x8000) & 0xFFFF_0000}  # where it is physically
    loads = {word << 16 for word in words if word >> 16 == _LIS_R5}
    if not any(load & 0xFFFF_FFFF in taken for load in loads) or _ADDI_R5 << 16 | low not in words:
        return None
    ends = {
        first << 16 & 0xFFFF_FFFF
        for first, then in pairwise(words)
        if first >> 26 == _ADDIS and not first >> 16 & 31 and then & _COMPARED == _COMPARE
        if first >> 21 & 31 == then >> 11 & 31
    }
    kinds = {word == _SMALL for word in words if word in (_SMALL, _WIDE)}
    return (ends.pop(), kinds.pop()) if len(ends) == len(kinds) == 1 else None


def order(image: Image, size: int) -> int:
    """Return the binary logarithm of how many pages ``size`` bytes are, a power of two."""
    return size.bit_length() - 1 - int(kernel_option(image, "PPC_PAGE_SHIFT") or PAGE_SHIFT)


@lru_cache(maxsize=4)
def lowmem(image: Image) -> int:
    """Return how many bytes the linear map holds at most (arch/powerpc/mm/init_32.c)."""
    at = address_of(image, "__max_low_memory")
    return (0 if at is None else int.from_bytes(image.read(at, 4), "big")) or _LOWMEM


def linear_offset(image: Image) -> int:
    """Return virtual minus physical addresses of the linear map, from the ELF program headers."""
    first = image.segments[0]
    if first.physical is None:
        raise BadImage(image.path, "nothing tells at which physical address the kernel is loaded")
    return first.address - first.physical
