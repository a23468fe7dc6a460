"""Find what still refers to a removed patch: a CPU's registers, or an interrupted context in memory.

A thread can be inside a body in three ways. Inside the guarded part (between the entry and
the exit counter, where payload calls may sleep) the difference of the two counters tells.
Elsewhere it can only have been interrupted, and then the kernel's exception frame holds its
pc, and its MSR soon behind (Linux's ``pt_regs`` and Darwin's savearea keep them adjacent; where
they are saved as 64 bits, the MSR's upper half, 0, lies between them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.layout import Flag
from kgdbpatch.component.table import Table
from kgdbpatch.vm.ram import Traced

__all__ = ["Pieces", "interrupted_contexts", "pin_needed", "return_addresses", "stack_memory"]

Pieces = Iterator[tuple[int, npt.NDArray[np.uint8]]]  # of memory: physical address, bytes

_DISTANCE = 2  # words from the pc to its MSR, at most
_CHUNK = 1 << 18  # words at a time: what is made of them stays in the host's caches


def _clusters(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (mask, value) pairs of address prefixes that cover ``ranges``: one per 16 MiB used."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for start, end in ranges:
        groups.setdefault(start >> 24, []).append((start, end - 1))
    clusters = []
    for group in groups.values():
        low, high = min(start for start, _ in group), max(last for _, last in group)
        mask = 0xFFFF_FFFF << (low ^ high).bit_length() & 0xFFFF_FFFF
        clusters.append((mask, low & mask))
    return clusters


def _swap(word: int) -> np.uint32:
    return np.uint32(int.from_bytes(word.to_bytes(4, "big"), "little"))


def interrupted_contexts(
    memory: Iterable[tuple[int, npt.NDArray[np.uint8]]],
    ranges: Sequence[tuple[int, int]],
    kernel_status: Callable[[npt.NDArray[np.uint32]], npt.NDArray[np.bool_]],
) -> list[tuple[int, int]]:
    """Return (physical address, pc) of every saved context whose pc lies in one of ``ranges``.

    ``memory`` yields pieces of guest memory that can hold kernel stacks as (physical address,
    bytes), both multiples of 8; ``ranges`` are virtual ``[start, end)`` pairs; ``kernel_status`` as of
    `Cpu`.
    """
    if not ranges:
        return []
    ordered = sorted(ranges)
    starts = np.array([start for start, _ in ordered], np.uint32)
    ends = np.array([end for _, end in ordered], np.uint32)
    clusters = [(_swap(mask), _swap(value)) for mask, value in _clusters(ordered)]
    found = []
    for base, piece in memory:
        words = piece.view("<u4")
        for begin in range(0, words.size, _CHUNK):
            chunk = words[begin : begin + _CHUNK + _DISTANCE]  # some more: the MSR behind the last pc
            for mask, value in clusters:
                index = np.flatnonzero((chunk[:_CHUNK] & mask) == value)
                if not index.size:
                    continue
                pcs = chunk[index].byteswap()
                slot = np.searchsorted(starts, pcs, side="right").astype(np.int64) - 1
                inside = (slot >= 0) & (pcs < ends[slot]) & (pcs & np.uint32(3) == 0)
                first, second = (
                    np.where(index + step < chunk.size, chunk[np.minimum(index + step, chunk.size - 1)], 0)
                    .astype("<u4")
                    .byteswap()
                    for step in (1, 2)
                )
                inside &= kernel_status(first) | (first == 0) & kernel_status(second)
                for at, pc in zip(index[inside], pcs[inside], strict=True):
                    found.append((base + 4 * (begin + int(at)), int(pc)))
    return found


def return_addresses(
    memory: Iterable[tuple[int, npt.NDArray[np.uint8]]], ranges: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return (physical address, word) of every word that may be a return address into one of ``ranges``."""
    return interrupted_contexts(memory, ranges, lambda words: np.ones(words.shape, np.bool_))


def stack_memory(ram: Traced, skip: tuple[int, int]) -> Pieces:
    """Yield all memory in which kernel stacks can be: what was ever used, less ``skip``, the arena."""
    for start, end in ram.touched():
        for low, high in ((start, min(end, skip[0])), (max(start, skip[1]), end)):
            if low < high:
                yield low, ram.array(low, high - low)


def pin_needed(arena: Arena, everything: Table, retired: Table, pinned: npt.NDArray[np.bool_]) -> None:
    """Pin the retired bodies that another patch, which stays, goes on to, or uses names of."""
    before = -1
    while before != (before := int(pinned.sum())):
        _pin_led_on_to(arena, everything, retired, pinned)
        _pin_used(arena, everything, retired, pinned)


def _pin_used(arena: Arena, everything: Table, retired: Table, pinned: npt.NDArray[np.bool_]) -> None:
    """Pin the retired bodies whose functions and variables a patch that stays was linked against."""
    if not len(retired) or pinned.all():
        return
    stays = ~np.isin(everything.slots, retired.slots[~pinned])
    for index in np.flatnonzero(stays & (everything.raw["flags"] & Flag.USES > 0)).tolist():
        found = arena.note(everything.record(index))
        if found is not None and found[1].uses:
            pinned |= np.isin(retired.raw["id"], found[1].uses)


def _pin_led_on_to(arena: Arena, everything: Table, retired: Table, pinned: npt.NDArray[np.bool_]) -> None:
    """Pin the retired bodies that another patch of their site, which stays, goes on to."""
    onward = np.flatnonzero(everything.raw["flags"] & Flag.ONWARD)
    leading = [everything.record(index) for index in onward.tolist()]
    if not leading:
        return
    slots = retired.slots.tolist()
    start = retired.raw["body"].astype(np.int64)
    end = start + retired.raw["body_size"]
    changed = True
    while changed:
        stays = set(np.array(slots)[pinned].tolist()) | set(everything.slots.tolist()) - set(slots)
        before = int(pinned.sum())
        for record in leading:
            if record.slot in stays:
                target, _ = arena.onward(record)
                pinned |= (start <= target) & (target < end) | (retired.raw["springboard"] == target)
        changed = int(pinned.sum()) != before
