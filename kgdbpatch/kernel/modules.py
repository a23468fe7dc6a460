"""The modules that a running kernel has loaded: found in its memory, named and judged together with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import BadImage
from kgdbpatch.kernel.guessed import with_functions

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.image.loaded import ModuleImage
    from kgdbpatch.kernel.module_list import ModuleList
    from kgdbpatch.patch.site_checker import SiteChecker
    from kgdbpatch.personality.base import Module, ModuleId, Personality

__all__ = ["ModuleImages"]

_TRIES = 8  # at reading modules while they come and go

Words = npt.NDArray[np.uint32]


class _Known(NamedTuple):
    """A module as it was looked at; ``checker`` is what judges its sites, from when that is asked for."""

    id: ModuleId
    image: ModuleImage
    checkers: list[SiteChecker]


class ModuleImages:
    """The images of a running ``kernel`` and its modules.

    ``words(address, count)`` reads code, patches undone. What was made of a module is kept as long as that
    stays loaded.
    """

    def __init__(
        self, modules: ModuleList, personality: Personality, kernel: Image, words: Callable[[int, int], Words]
    ) -> None:
        self._modules, self._personality, self._file, self._words = modules, personality, kernel, words
        self._known: dict[str, _Known] = {}
        self._image: Image = kernel
        self._made_of: frozenset[ModuleId] = frozenset()

    @cached_property
    def kernel(self) -> Image:
        """The kernel's image; functions are guessed where its file names none."""
        return with_functions(self._file)

    def image(self) -> Image:
        """Return the kernel's image: that of its file, or where modules are loaded one that knows them.

        A list that cannot be read has no modules on it.
        """
        for _ in range(_TRIES):
            try:
                return self._current()
            except BadImage:  # one was unloaded just now, or the list is damaged
                continue
        return self.kernel

    def _current(self) -> Image:
        found = {module.name: module for module in self._modules.all()}
        ids = frozenset(module.id for module in found.values())
        if not found:
            return self.kernel
        if ids != self._made_of:
            from kgdbpatch.image.modular import ModularImage

            self._known = {name: self._look_at(module) for name, module in found.items()}
            self._image = ModularImage(self.kernel, [one.image for one in self._known.values()])
            self._made_of = ids
        return self._image

    def _look_at(self, module: Module) -> _Known:
        known = self._known.get(module.name)
        if known is not None and known.id == module.id:
            return known
        return _Known(module.id, self._modules.image(module, self._words), [])

    def site_checker(self, own: SiteChecker) -> SiteChecker:
        """Return what judges sites, ``own`` being what does so for the kernel's."""
        image = self.image()
        if image is self.kernel:
            return own
        from kgdbpatch.kernel.module_sites import ModularSiteChecker

        checkers: Mapping[str, SiteChecker] = {name: self._checker(one) for name, one in self._known.items()}
        return ModularSiteChecker(own, image, checkers, self._modules.at)

    def _checker(self, known: _Known) -> SiteChecker:
        if not known.checkers:
            from kgdbpatch.kernel.module_sites import site_checker

            known.checkers.append(site_checker(self._personality, known.image, self._words))
        return known.checkers[0]
