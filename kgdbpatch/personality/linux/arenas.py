"""Where above a Linux kernel's linear map patches can lie, if processes reach up to that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kgdbpatch.personality.base import MIB, ArenaPlan, Window

__all__ = ["LEAST_NEAR", "NEAR", "REACH", "SLOTS", "arenas_above"]

NEAR, LEAST_NEAR = 16 * MIB, MIB
REACH = 32 * MIB  # of a branch, either way
_GUARD = 16 * MIB  # behind the linear map, which nothing maps (VMALLOC_OFFSET)
SLOTS = 16 * MIB  # the last of all addresses, where the kernel has slots that it fills without asking


def arenas_above(usual: ArenaPlan, end: int) -> Iterator[ArenaPlan]:
    """Yield arenas above the linear map's ``end``, code where an absolute branch reaches it from anywhere.

    One that the linear map shows has but its code there.
    """
    top, most = (1 << 32) - REACH, min(NEAR, usual.size // 2)
    blocks = range(top - usual.size, end + _GUARD - 1, -usual.size)
    if usual.linear:
        blocks = range(usual.virtual, usual.virtual + 1)
    for size in (most >> shift for shift in range(5) if most >> shift >= LEAST_NEAR):
        for at in range((1 << 32) - SLOTS - size, top - 1, -size):
            for virtual in blocks:
                yield replace(usual, virtual=virtual, near=Window(at, at + size))
