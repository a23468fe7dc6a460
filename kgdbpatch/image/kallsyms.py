"""Find and read the symbols that a running Linux keeps about itself (kernel/kallsyms.c), from its RAM.

Names are compressed: bytes stand for *tokens*, in whose table, of 256 strings, those numbered 0x30 to 0x39
are the ten digits. Behind it lies an index of 256 halfwords; before it *markers*, the offset of every 256th
name; before them the names, and before those their number. Addresses lie before that number (offsets and
their base, or addresses), in newer kernels behind the index: offsets and their base, or addresses again
(7.0). There the symbols' numbers in the order of their names follow, three bytes each: so it is known which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Kallsyms", "KernelSymbol", "find_kallsyms"]

_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_TOKENS, _STEP = 256, 256
_MOST_SYMBOLS = 1 << 20
_MOST_NAMES = 16 << 20  # bytes of compressed names
_LONGEST = 512  # characters of a name, with its type

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class KernelSymbol:
    """A symbol as /proc/kallsyms shows it; ``kind`` is nm's letter."""

    name: str
    kind: str
    address: int


@dataclass(frozen=True)
class Kallsyms:
    """The symbols in the order of their addresses, and where their names begin in the memory."""

    symbols: tuple[KernelSymbol, ...]
    offset: int


def find_kallsyms(memory: bytes) -> Kallsyms | None:
    """Return the symbols in an image of physical memory (big-endian), None where there are none."""
    at = memory.find(_DIGITS)
    while at >= 0:
        found = _from_digits(memory, at)
        if found is not None:
            return found
        at = memory.find(_DIGITS, at + 1)
    return None


def _from_digits(memory: bytes, digits: int) -> Kallsyms | None:
    tokens = _tokens(memory, digits)
    if tokens is None:
        return None
    table, index, strings = tokens
    low = max(0, table - _MOST_NAMES)
    low += -(table - low) % 4
    words = np.frombuffer(memory, ">u4", (table - low) // 4, low).astype(np.uint32)
    for markers in _markers(words):
        offsets = words[markers:]
        for names, count in _names(memory, words, low, markers):
            ends = _walk(memory, names, low + 4 * markers, count, offsets)
            if ends is None:
                continue
            addresses = _addresses(memory, names - 4, index + 2 * _TOKENS, count)
            if addresses is not None:
                return Kallsyms(tuple(_expand(memory, ends, strings, addresses)), names)
    return None


def _tokens(memory: bytes, digits: int) -> tuple[int, int, list[bytes]] | None:
    """Return where the token table and its index lie, and the tokens; None where these are none."""
    end = digits
    for _ in range(ord("0"), _TOKENS):
        end = memory.find(b"\0", end, end + _LONGEST) + 1
        if not end:
            return None
    for index in (-(-end // 4) * 4, -(-end // 8) * 8):
        if index + 2 * _TOKENS > len(memory):
            continue
        starts = np.frombuffer(memory, ">u2", _TOKENS, index).astype(int)
        table = digits - int(starts[ord("0")])
        if starts[0] or table < 0 or (np.diff(starts) < 1).any() or table + starts[-1] >= end:
            continue
        strings = memory[table : end - 1].split(b"\0")
        if (
            len(strings) == _TOKENS
            and np.cumsum([0, *(len(s) + 1 for s in strings)])[:-1].tolist() == starts.tolist()
        ):
            return table, index, strings
    return None


def _markers(words: Words) -> Iterator[int]:
    """Yield the indices at which a list of markers may begin, the last first."""
    step = np.diff(words.astype(np.int64))
    likely = (step >= 2 * _STEP) & (step <= _LONGEST * _STEP)
    start = np.nonzero((words[:-1] == 0) & likely)[0]
    yield from (int(i) for i in start[::-1])


def _names(memory: bytes, words: Words, low: int, markers: int) -> Iterator[tuple[int, int]]:
    """Yield where the names before some markers may begin, and how many they are."""
    offsets = words[markers : markers + _MOST_SYMBOLS // _STEP].astype(np.int64)
    falls = np.nonzero(np.diff(offsets) < 2 * _STEP)[0]
    most = int(falls[0]) + 1 if len(falls) else len(offsets)
    # the number of names says how many markers there are; the last marker how far back they begin
    farthest = int(offsets[most - 1]) + _LONGEST * _STEP
    first = max(0, markers - farthest // 4 - 2)
    numbers = words[first:markers]
    count = -(-numbers.astype(np.int64) // _STEP)
    plausible = np.nonzero((count >= 1) & (count <= most))[0]
    last = offsets[count[plausible] - 1]
    room = 4 * (markers - first - plausible - 1) - last
    fits = (room >= 2) & (room <= _LONGEST * _STEP)
    for index in plausible[fits].tolist():
        yield low + 4 * (first + index) + 4, int(numbers[index])


def _walk(memory: bytes, start: int, limit: int, count: int, markers: Words) -> list[tuple[int, int]] | None:
    """Return (begin, end) of each compressed name; None when they miss a marker or the limit."""
    at = start
    ends: list[tuple[int, int]] = []
    for number in range(count):
        if number % _STEP == 0 and at - start != markers[number // _STEP]:
            return None
        length = memory[at]
        at += 1
        if length & 0x80:  # a long one: seven bits, and eight more
            length = length & 0x7F | memory[at] << 7
            at += 1
        if not length or at + length > limit:
            return None
        ends.append((at, at + length))
        at += length
    return ends


def _addresses(memory: bytes, number: int, behind: int, count: int) -> Words | None:
    """Return the addresses, which never fall: offsets before or behind, or full addresses."""
    size, after = 4 * count, -(-behind // 4) * 4
    ways: list[tuple[int, int | None]] = []
    if _are_numbers(memory, after + size + 4, count):
        ways.append((after, after + size))
    if _are_numbers(memory, after + size, count):
        ways.append((after, None))
    for place, base_at in (*ways, (number - 4 - size, number - 4), (number - size, None)):
        if place < 0 or place + size > len(memory):
            continue
        base = 0 if base_at is None else int.from_bytes(memory[base_at : base_at + 4], "big")
        values = np.frombuffer(memory, ">u4", count, place).astype(np.int64)
        if (np.diff(values) >= 0).all() and values[-1] > values[0] and base + int(values[-1]) < 1 << 32:
            return (values + base).astype(np.uint32)
    return None


def _are_numbers(memory: bytes, place: int, count: int) -> bool:
    """Tell whether each symbol's number stands at a place, in whatever order."""
    if place + 3 * count > len(memory):
        return False
    raw = np.frombuffer(memory, np.uint8, 3 * count, place).reshape(count, 3).astype(np.uint32)
    numbers = np.sort(raw[:, 0] << 16 | raw[:, 1] << 8 | raw[:, 2])
    return bool((numbers == np.arange(count)).all())


def _expand(
    memory: bytes, ends: list[tuple[int, int]], tokens: list[bytes], addresses: Words
) -> Iterator[KernelSymbol]:
    for (begin, end), address in zip(ends, addresses.tolist(), strict=True):
        text = b"".join(map(tokens.__getitem__, memory[begin:end])).decode("latin-1")
        yield KernelSymbol(text[1:], text[:1], address)
