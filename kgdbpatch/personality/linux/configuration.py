"""What a Linux kernel's file says of how it was configured, and of its linear map."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage
from kgdbpatch.personality.linux.tables import address_of

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["PAGE_SHIFT", "kernel_option", "linear_offset", "lowmem", "order"]

PAGE_SHIFT = 12
_LOWMEM = 0x3000_0000  # bytes of the linear map at most, as kernels are configured (CONFIG_LOWMEM_SIZE)
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
