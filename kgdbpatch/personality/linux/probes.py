"""Kprobes: where a running Linux has put one, and where it makes code for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from kgdbpatch.isa import encode

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["is_probed", "probe_code"]

_TABLE, _TABLE_SIZE = "kprobe_table", 0x100  # lists of all probes
_SLOTS = "optinsn_slot"
_TRAP = 0x7FE0_0008  # arch/powerpc/include/asm/kprobes.h: BREAKPOINT_INSTRUCTION
_WORDS = 16  # of a probe, from the link on that it begins with: its address stands among them
_MOST = 4096


@lru_cache(maxsize=4)
def probe_code(image: Image) -> range:
    """Return the addresses of the words of text that the kernel fills with code for its probes.

    They end where the next symbol stands.
    """
    known = image.symbols.last((_SLOTS,)).get(_SLOTS)
    section = None if known is None else image.section_at(known.address)
    if known is None or section is None:
        return range(0)
    behind = (symbol.address for symbol in image.symbols if known.address < symbol.address < section.end)
    return range(known.address, min(behind, default=section.end), 4)


def is_probed(image: Image, word: Callable[[int], int | None], address: int, found: int) -> bool:
    """Tell whether the word ``found`` at an address is there for a probe of the kernel's.

    It is a branch to code that was made for one, or a trap where the kernel's table of probes has one.
    ``word(address)`` reads its memory.
    """
    target = encode.branch_target(address, found)
    if target is not None and not found & 1:
        return target in probe_code(image)
    return found == _TRAP and _is_listed(image, word, address)


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
