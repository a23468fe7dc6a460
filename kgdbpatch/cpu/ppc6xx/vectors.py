"""The exception vectors of a kernel: where they are, what room is left behind each, where a hook can lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kgdbpatch.image import Image
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.trap import HOOK_SIZE, Hook
from kgdbpatch.personality.base import Personality, Window

__all__ = ["VECTORS", "free_words", "hook", "shift", "tails", "vectors"]

VECTORS = range(0x100, 0x1800, 0x100)  # offsets of the exception vectors (MPC750's manual, 4.1)
_VECTOR_UNIT = 0xF20  # of "AltiVec unavailable" (MPC7450's manual, 4.1), within another's room
_SPACE = 0x100  # bytes between two vectors
_PROGRAM = 0x700
_LEAVES = (Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI)


def vectors(personality: Personality, image: Image, *, altivec: bool = False) -> tuple[int, ...]:
    """Return the virtual addresses of the exception vectors, those that the image holds.

    They are known by the names of their sections, or by the physical addresses of others.
    """
    found = []
    for section in image.code_sections():
        if section.name in personality.untranslated_sections:
            base = section.address - section.address % 0x1000
        else:
            physical = personality.to_physical(image, section.address)
            if physical is None:
                continue
            base = section.address - physical
        offsets = sorted({*VECTORS, _VECTOR_UNIT}) if altivec else VECTORS
        found += [base + offset for offset in offsets if base + offset in section]
    return tuple(found)


def tails(personality: Personality, image: Image, *, altivec: bool = False) -> list[Window]:
    """Return the unused bytes behind each vector's code: zeroes up to the next vector.

    The code before them must leave for elsewhere unconditionally, so that it cannot run into them.
    """
    found, entered = [], vectors(personality, image, altivec=altivec)
    for vector in entered:
        space = min((other - vector for other in entered if 0 < other - vector < _SPACE), default=_SPACE)
        words = np.frombuffer(image.read(vector, space), ">u4")
        used = np.flatnonzero(words)
        if not used.size or used[-1] == words.size - 1:
            continue
        last = decode(int(words[used[-1]]), vector + 4 * int(used[-1]))
        if last.kind in _LEAVES and not _conditional(last.word):
            found.append(Window(last.address + 4, vector + space))
    return found


def _conditional(word: int) -> bool:
    """Tell whether a branch by LR or CTR may go on to the next word."""
    return word >> 26 == 19 and word >> 1 & 0x3FF in (16, 528) and word >> 21 & 0x14 != 0x14


def shift(personality: Personality, image: Image) -> int | None:
    """Return what physical addresses of the vectors are less than virtual ones; None without vectors."""
    places = ((vector, personality.to_physical(image, vector)) for vector in vectors(personality, image))
    return next((vector - physical for vector, physical in places if physical is not None), None)


def hook(
    personality: Personality,
    image: Image,
    table: int,
    words: Callable[[int, int], npt.NDArray[np.uint32]],
    *,
    altivec: bool = False,
) -> Hook | None:
    """Return where the program exception can be hooked, or None; ``table`` as in `Hook`.

    ``words`` are the running kernel's. The hook lies at the end of a vector's tail, at best its own.
    """
    for base in {vector & ~0xFFFF for vector in vectors(personality, image)}:
        vector, physical = base + _PROGRAM, personality.to_physical(image, base + _PROGRAM)
        if physical is None:
            continue
        found = tails(personality, image, altivec=altivec)
        windows = sorted(found, key=lambda window: window.start & ~0xFF != vector)
        for window in windows:
            at = window.end - HOOK_SIZE
            if at > window.start and not words(at, HOOK_SIZE // 4).any():
                return Hook(vector, int(words(vector, 1)[0]), at, vector - physical, table)
    return None


def free_words(
    personality: Personality,
    image: Image,
    size: int,
    words: Callable[[int, int], npt.NDArray[np.uint32]],
) -> int | None:
    """Return the virtual address of ``size`` unused bytes behind a vector's code, or None.

    ``words`` are the running kernel's. The vector's is none at which the program exception would be hooked.
    """
    for window in reversed(tails(personality, image)):
        at = window.end - size
        hooked = window.start & 0xFF00 == _PROGRAM
        if at > window.start and not hooked and not words(at, size // 4).any():
            return at
    return None
