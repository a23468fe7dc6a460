"""The exception vectors of a kernel: where they are, what room is left behind each, where a hook can lie.

What a family knows is `Vectors`: the offsets of its CPUs' vectors. The rest is found out of a kernel's image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.layout import TRAPS_OFFSET
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.trap import HOOK_SIZE, Hook
from kgdbpatch.personality.base import ArenaPlan, Personality, Window

__all__ = ["Vectors"]

_BASE = 0x1_0000  # of what a base is a multiple (PEM 6.2.1; EVPR and IVPR hold no lower bits)
_LWZ, _STW = 32, 36  # primary opcodes
_LEAVES = (Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI)
_Words = Callable[[int, int], npt.NDArray[np.uint32]]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Where a CPU's exceptions enter: offsets from a base, ascending; ``program`` is the program exception's.

    ``space`` is what belongs to a vector at most, bytes: less where another one follows sooner.
    """

    offsets: tuple[int, ...]
    program: int
    space: int = 0x100

    def places(self, personality: Personality, image: Image) -> tuple[int, ...]:
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
            found += [base + offset for offset in self.offsets if base + offset in section]
        return tuple(found)

    def shift(self, personality: Personality, image: Image) -> int | None:
        """Return what physical addresses of the vectors are less than virtual ones; None without vectors."""
        vectors = self.places(personality, image)
        places = ((vector, personality.to_physical(image, vector)) for vector in vectors)
        return next((vector - physical for vector, physical in places if physical is not None), None)

    def tails(self, personality: Personality, image: Image) -> list[Window]:
        """Return the unused bytes behind each vector's code: zeroes up to the next vector.

        The code before them must leave for elsewhere unconditionally, so that it cannot run into them.
        """
        return [window for _, window in self._tails(personality, image)]

    def _tails(self, personality: Personality, image: Image) -> list[tuple[int, Window]]:
        """Return the vectors that have a tail, each with it."""
        found, entered = [], self.places(personality, image)
        for vector in entered:
            nearer = (other - vector for other in entered if 0 < other - vector < self.space)
            end = vector + min(nearer, default=self.space)
            words = np.frombuffer(image.read(vector, end - vector), ">u4")
            used = np.flatnonzero(words)
            if not used.size or used[-1] == words.size - 1:
                continue
            last = decode(int(words[used[-1]]), vector + 4 * int(used[-1]))
            if last.kind in _LEAVES and not _conditional(last.word):
                found.append((vector, Window(last.address + 4, end)))
        return found

    def variables(self, personality: Personality, image: Image) -> frozenset[int]:
        """Return the addresses of words among the vectors' code in which that keeps data of its own.

        Untranslated code reaches them by no register: it stores there by an absolute address, and loads from
        there, or the word is 0 in the file, which is no instruction.
        """
        places, shift = self.places(personality, image), self.shift(personality, image)
        sections = [one for one in image.code_sections() if any(at in one for at in places)]
        found = set[int]()
        for section in sections if shift is not None else ():
            words = image.words(section)
            absolute = words & np.uint32(0x1F_8000) == 0  # base 0, and no sign
            stored, loaded = (
                {*(words[absolute & (words >> np.uint32(26) == primary)] & np.uint32(0x7FFC)).tolist()}
                for primary in (_STW, _LWZ)
            )
            for at in (physical + (shift or 0) for physical in stored):
                index = (at - section.address) // 4
                if at in section and (at - (shift or 0) in loaded or not words[index]):
                    found.add(at)
        return frozenset(found)

    def _is_program(self, vector: int) -> bool:
        return vector % _BASE == self.program

    def hook(self, personality: Personality, image: Image, arena: ArenaPlan, words: _Words) -> Hook | None:
        """Return where the program exception can be hooked, or None.

        ``words`` are the running kernel's. The hook lies at the end of a vector's tail, at best its own.
        """
        tails, table = self._tails(personality, image), arena.physical + TRAPS_OFFSET
        for vector in filter(self._is_program, self.places(personality, image)):
            physical = personality.to_physical(image, vector)
            if physical is None:
                continue
            for _, window in sorted(tails, key=lambda tail: tail[0] != vector):
                at = window.end - HOOK_SIZE
                if at > window.start and not words(at, HOOK_SIZE // 4).any():
                    return Hook(vector, int(words(vector, 1)[0]), at, vector - physical, table)
        return None

    def gates(self, personality: Personality, image: Image, size: int) -> list[int]:
        """Return where ``size`` bytes (virtual addresses) behind a vector's code are unused by the kernel.

        Not at the vector's at which the program exception would be hooked.
        """
        tails = reversed(self._tails(personality, image))
        places = ((window.end - size, window.start) for at, window in tails if not self._is_program(at))
        return [at for at, start in places if at > start]


def _conditional(word: int) -> bool:
    """Tell whether a branch by LR or CTR may go on to the next word."""
    return word >> 26 == 19 and word >> 1 & 0x3FF in (16, 528) and word >> 21 & 0x14 != 0x14
