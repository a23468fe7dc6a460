"""Where the program exception enters a kernel (IVPR, IVOR6), and unused words of its text.

A family whose exceptions enter anywhere: the code that sets these registers says where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.kernel_calls import GATE_SIZE
from kgdbpatch.component.layout import TRAPS_OFFSET
from kgdbpatch.cpu.booke.hook import SIZE
from kgdbpatch.image import Image
from kgdbpatch.isa import encode
from kgdbpatch.patch.trap import Hook
from kgdbpatch.personality.base import ArenaPlan, Personality, Window

__all__ = ["IVOR_BITS", "IVPR_BITS", "gates", "program_exception", "trap_hook"]

IVPR_BITS, IVOR_BITS = 0xFFFF_0000, 0xFFF0  # of each that make the address (E500CORERM 2.7.1)
_IVPR, _IVOR6 = 63, 406
_SPRGS = range(272, 280)  # as the supervisor writes them; it reads SPRG4 to 7 by these numbers, too
_READ_AS = {260: 276, 261: 277, 262: 278, 263: 279}  # by users
_MFSPR, _MTSPR = 31 << 26 | 339 << 1, 31 << 26 | 467 << 1
_PAGE = 4096
_NEAR = 16  # instructions that make a number, at most
_ADDI, _ADDIS, _ORI, _BRANCHES = 14, 15, 24, (16, 18, 19)
_Words = Callable[[int, int], npt.NDArray[np.uint32]]


def _gaps(personality: Personality, image: Image) -> Iterator[Window]:
    """Yield what lies behind each section of code in its last page, up to whatever comes next."""
    given_up = personality.discarded(image)
    for section in image.code_sections():
        if any(window.start <= section.end <= window.end for window in given_up):
            continue
        start = -(-section.end // 16) * 16
        end = -(-section.end // _PAGE) * _PAGE
        end = min([end, *(other.address for other in image.sections if start <= other.address < end)])
        if start < end and personality.to_physical(image, end - 4) is not None:
            yield Window(start, end)


def gates(personality: Personality, image: Image, size: int) -> list[int]:
    """Return the addresses of ``size`` unused bytes behind sections of code, in their last pages.

    They are the last ones there: the first are the hook's of traps.
    """
    return [gap.end - size for gap in _gaps(personality, image) if gap.end - size >= gap.start]


def trap_hook(
    personality: Personality, image: Image, arena: ArenaPlan, words: _Words, model: str
) -> Hook | None:
    """Return where the program exception can be hooked; None where that or a register is not found.

    The kernel's instructions are those of ``model``.
    """
    vector = program_exception(image, model)
    shift = None if vector is None else personality.to_physical(image, vector)
    if vector is None or shift is None:
        return None
    handler = words(vector, _NEAR)
    scratch = _overwritten(handler.tolist())
    if scratch is None:
        return None
    for gap in _gaps(personality, image):
        if gap.end - gap.start < SIZE + GATE_SIZE or words(gap.start, SIZE // 4).any():
            continue
        physical = personality.to_physical(image, gap.start)
        if physical == gap.start - vector + shift and encode.branch_reaches(vector, gap.start):
            table = arena.virtual + TRAPS_OFFSET
            return Hook(vector, int(handler[0]), gap.start, vector - shift, table, scratch, SIZE)
    return None


def program_exception(image: Image, model: str) -> int | None:
    """Return the address of the program exception's handler, by the code that writes IVPR and IVOR6.

    None where there is no such code, or several pieces of it do not agree.
    """
    bases = {value & IVPR_BITS for value in _written(image, _IVPR, model)}
    offsets = {value & IVOR_BITS for value in _written(image, _IVOR6, model)}
    if len(bases) != 1 or len(offsets) != 1:
        return None
    at = bases.pop() | offsets.pop()
    return at if any(at in section for section in image.code_sections()) else None


def _written(image: Image, spr: int, model: str) -> Iterator[int]:
    """Yield the numbers that the kernel's code writes to a special register, those that are found."""
    form = encode.mtspr(spr, 0)
    for section in image.code_sections():
        words = image.words(section)
        for index in np.flatnonzero((words & 0xFC1F_FFFF) == form).tolist():
            before = words[max(0, index - _NEAR) : index].tolist()
            value = _number(before, int(words[index]) >> 21 & 31, model)
            if value is not None:
                yield value


def _number(before: list[int], register: int, model: str) -> int | None:
    """Return the number that the last of these words leave in a register, or None."""
    value = 0
    for word in reversed(before):
        opcode, target, source = word >> 26, word >> 21 & 31, word >> 16 & 31
        if opcode in _BRANCHES:
            return None
        if opcode == _ORI:
            target, source = source, target
        if opcode not in (_ADDI, _ADDIS, _ORI) or target != register:
            if opcode not in (_ADDI, _ADDIS, _ORI) and _may_write(word, register, model):
                return None
            continue
        low = word & 0xFFFF if opcode == _ORI else (word & 0xFFFF ^ 0x8000) - 0x8000
        value += low << 16 if opcode == _ADDIS else low
        if opcode != _ORI and not source:
            return value & 0xFFFF_FFFF
        register = source
    return None


def _may_write(word: int, register: int, model: str) -> bool:
    """Tell whether a word that makes no number may change a register."""
    from kgdbpatch.isa.decode import decode  # on use: most commands need none of this

    return bool(decode(word, 0, model).defs >> register & 1)


def _overwritten(handler: list[int]) -> int | None:
    """Return the first of SPRG0 to 7 that a handler writes before it reads it, or None."""
    read = set()
    for word in handler:
        if word >> 26 in _BRANCHES:
            return None
        number = (word >> 16 & 31) | (word >> 6 & 0x3E0)
        if word & 0xFC00_07FF == _MFSPR:
            read.add(_READ_AS.get(number, number))
        if word & 0xFC00_07FF == _MTSPR and number in _SPRGS and number not in read:
            return number
    return None
