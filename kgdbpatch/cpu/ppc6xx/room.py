"""An instruction BAT for the arena where the kernel's text takes them all: some of its blocks made one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["LARGEST_BLOCK", "LEAST_BLOCK", "Pair", "with_room"]

LEAST_BLOCK, LARGEST_BLOCK = 1 << 17, 1 << 28  # bytes

Pair = tuple[int, int]  # a BAT's upper and lower word (PEM 7.4.3)

_SUPERVISOR, _USER = 2, 1  # of the upper word: for whom it is valid
_BITS = 0x7F  # of the lower word: WIMG and PP
_ODD = 0x28  # I and G: no memory to fetch from


class _Map(NamedTuple):
    """What one BAT translates: ``shift`` is what physical addresses are more than virtual ones."""

    number: int
    start: int
    end: int
    shift: int
    valid: int
    bits: int


def with_room(instruction: Sequence[Pair], data: Sequence[Pair]) -> list[Pair] | None:
    """Return instruction BATs that translate whatever these do, with one more of them free, or None.

    Blocks that differ in nothing but their place are made one, which is larger than both together where
    it must be. What comes to be executable by that is memory of the kernel's which a data BAT shows at the
    same place: no address gets another translation, and no process any.
    """
    blocks, shown = list(_maps(instruction)), [one for one in _maps(data) if not one.bits & _ODD]
    found = min(_unions(blocks, shown), default=None)
    if found is None:
        return None
    _, block = found
    result = list(instruction)
    for one in blocks:
        if block.start <= one.start < block.end:
            result[one.number] = (0, 0)
    upper = block.start | (block.end - block.start) // LEAST_BLOCK - 1 << 2 | block.valid
    result[block.number] = (upper, block.start + block.shift | block.bits)
    return result


def _maps(pairs: Sequence[Pair]) -> Iterator[_Map]:
    for number, (upper, lower) in enumerate(pairs):
        start, physical = upper & 0xFFFE_0000, lower & 0xFFFE_0000
        size = ((upper & 0x1FFC) << 15) + LEAST_BLOCK
        if upper & (_SUPERVISOR | _USER):
            yield _Map(number, start, start + size, physical - start, upper & 3, lower & _BITS)


def _unions(blocks: Sequence[_Map], shown: Sequence[_Map]) -> Iterator[tuple[int, _Map]]:
    """Yield the blocks that can stand for two or more, each with the bytes that it maps besides."""
    for one in blocks:
        for other in blocks:
            if one.start >= other.start or one[3:] != other[3:]:
                continue
            size = LEAST_BLOCK
            while one.start & -size != (other.end - 1) & -size:
                size *= 2
            start = one.start & -size
            union = one._replace(start=start, end=start + size)
            inside = [of for of in blocks if of.start < union.end and union.start < of.end]
            added = size - sum(of.end - of.start for of in inside)
            alike = all(of[3:] == one[3:] and start <= of.start and of.end <= union.end for of in inside)
            if size > LARGEST_BLOCK or not alike or (start + union.shift) % size:
                continue
            if not added or (one.valid == _SUPERVISOR and _all_shown(union, inside, shown)):
                yield added, union


def _all_shown(union: _Map, inside: Sequence[_Map], shown: Sequence[_Map]) -> bool:
    """Tell whether all of a block that none of ``inside`` maps is mapped, to the same place, for data."""
    same = [one for one in (*inside, *shown) if one.shift == union.shift and one.valid & _SUPERVISOR]
    return all(
        any(one.start <= at < one.end for one in same) for at in range(union.start, union.end, LEAST_BLOCK)
    )
