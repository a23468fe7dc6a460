"""Kprobes: where a running Linux has put one, and where it makes code for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from kgdbpatch.isa import encode

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["SLOTS", "is_probed", "is_probes_word", "probe_code"]

_TABLE, _TABLE_SIZE = "kprobe_table", 0x100  # lists of all probes
SLOTS = "optinsn_slot"
_BEHIND = "optprobe_template_entry"
_MOST_CODE = 1 << 20  # bytes
_TRAP = 0x7FE0_0008  # arch/powerpc/include/asm/kprobes.h: BREAKPOINT_INSTRUCTION
_WORDS = 16  # of a probe, from the link on that it begins with: its address stands among them
_MOST = 4096


@lru_cache(maxsize=4)
def probe_code(image: Image) -> range:
    """Return the addresses of the words of text that the kernel fills with code for its probes."""
    known = image.symbols.last((SLOTS, _BEHIND))
    if len(known) < 2:
        return range(0)
    start, end = known[SLOTS].address, known[_BEHIND].address
    section = image.section_at(start)
    inside = section is not None and section.executable and start % 4 == 0 and start < end <= section.end
    return range(start, end, 4) if inside and end <= start + _MOST_CODE else range(0)


def is_probes_word(image: Image, address: int, found: int) -> bool:
    """Tell whether the word ``found`` is what the kernel writes at an address for a probe of its own."""
    target = encode.branch_target(address, found)
    return found == _TRAP or (target is not None and not found & 1 and target in probe_code(image))


def is_probed(
    image: Image,
    physical: Callable[[int], int | None],
    read: Callable[[int, int], bytes],
    address: int,
    found: int,
) -> bool:
    """Tell whether the word ``found`` at an address is there for a probe of the kernel's.

    It is a branch to code that was made for one, or a trap where the kernel's table of probes has one.
    ``physical(address)`` is where in RAM the kernel's memory is, ``read(physical, size)`` reads that.
    """

    def word(at: int) -> int | None:
        place = physical(at)
        return None if place is None else int.from_bytes(read(place, 4), "big")

    listed = found != _TRAP or _is_listed(image, word, address)
    return listed and is_probes_word(image, address, found)


def _is_listed(image: Image, word: Callable[[int], int | None], address: int) -> bool:
    table = image.symbols.last((_TABLE,)).get(_TABLE)
    if table is None:
        return False
    for head in range(table.address, table.address + (table.size or _TABLE_SIZE), 4):
        node = word(head)
        for _ in range(_MOST):
            if not node:
                break
            if any(word(node + 4 * index) == address for index in range(2, _WORDS)):
                return True
            node = word(node)
    return False
