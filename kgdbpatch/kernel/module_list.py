"""The list of a running kernel's modules, as its operating system keeps it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.image.loaded import ModuleImage
    from kgdbpatch.personality.base import Module, ModuleId, Modules, Personality

__all__ = ["ModuleList"]

Words = npt.NDArray[np.uint32]


class ModuleList:
    """The list of modules, read anew whenever it is asked; the guest need not stand still.

    ``read(physical, size)`` reads its memory.
    """

    def __init__(self, personality: Personality, image: Image, read: Callable[[int, int], bytes]) -> None:
        self._personality, self._image, self._read = personality, image, read

    @cached_property
    def _finder(self) -> Modules | None:
        return self._personality.modules(self._image, self._read)

    def all(self) -> Sequence[Module]:
        """Return the modules; raise `BadImage` when the list is damaged."""
        return () if self._finder is None else self._finder.loaded()

    def loaded(self) -> frozenset[ModuleId]:
        """Return what tells each of them from others, and from another load of the same."""
        return frozenset(module.id for module in self.all())

    def at(self, address: int) -> Module | None:
        """Return the module whose code an address is in."""
        inside = (one for one in self.all() if one.code.start <= address < one.code.end)
        return next(inside, None)

    def physical(self, address: int) -> int | None:
        """Return where the memory of a module is by an address in it, or None."""
        return None if self._finder is None else self._finder.physical(address)

    def image(self, module: Module, words: Callable[[int, int], Words]) -> ModuleImage:
        """Return the image of one of `all`; raise `BadImage` when it was unloaded meanwhile."""
        assert self._finder is not None, "there are no modules then"
        return self._finder.image(module, words)
