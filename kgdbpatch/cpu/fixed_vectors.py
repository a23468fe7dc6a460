"""Families whose exceptions enter at fixed offsets, as the port `Cpu` asks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused
from kgdbpatch.patch.watch import NO_WATCH

if TYPE_CHECKING:  # on use: it decodes
    import numpy as np
    import numpy.typing as npt

    from kgdbpatch.cpu.vectors import Vectors
    from kgdbpatch.image import Image
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.patch.watch import Code, WatchEntry
    from kgdbpatch.personality.base import ArenaPlan, Personality, Window
    from kgdbpatch.vm.ram import Readable

__all__ = ["FixedVectors"]


class FixedVectors:
    """What the port `Cpu` asks of vectors, told by a family's `Vectors`."""

    @property
    @abstractmethod
    def _vectors(self) -> Vectors:
        """Where the exceptions of the family enter."""

    def changed_text(self, ram: Readable, arena: int) -> dict[int, int]:
        """Return nothing: the kernel's text stays as it is."""
        return {}

    def vectors(self, personality: Personality, image: Image) -> tuple[int, ...]:
        """Return the virtual addresses of the exception vectors, those that the image holds."""
        return self._vectors.places(personality, image)

    def variables(self, personality: Personality, image: Image) -> frozenset[int]:
        """Return the addresses of words among the vectors' code in which that keeps data of its own."""
        return self._vectors.variables(personality, image)

    def vector_shift(self, personality: Personality, image: Image) -> int | None:
        """Return what physical addresses of the vectors are less than virtual ones; None without vectors."""
        return self._vectors.shift(personality, image)

    def vector_tails(self, personality: Personality, image: Image) -> list[Window]:
        """Return the unused bytes behind each vector's code."""
        return self._vectors.tails(personality, image)

    def gates(self, personality: Personality, image: Image, size: int) -> list[int]:
        """Return where ``size`` bytes behind a vector's code are unused by the kernel (virtual addresses)."""
        return self._vectors.gates(personality, image, size)

    def trap_hook(
        self,
        personality: Personality,
        image: Image,
        arena: ArenaPlan,
        words: Callable[[int, int], npt.NDArray[np.uint32]],
    ) -> Hook | None:
        """Return where the program exception can be hooked, or None."""
        return self._vectors.hook(personality, image, arena, words)

    def watch_code(self, entry: WatchEntry, tail: int, body: int) -> Code:
        """Raise `Refused` (rule ``trap``): the family has no such code."""
        raise Refused("trap", NO_WATCH)
