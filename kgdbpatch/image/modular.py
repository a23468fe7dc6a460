"""A kernel's image and those of its modules, asked as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.image.image import Image
from kgdbpatch.image.near import close_names

if TYPE_CHECKING:
    from kgdbpatch.image.loaded import ModuleImage
    from kgdbpatch.image.model import Function, Section, Symbol

__all__ = ["ModularImage"]

_BEHIND = re.compile(r"(?P<name>.*\S)\s+\[(?P<module>[\w.-]+)\]")
_BEFORE = re.compile(r"(?P<module>[\w.-]+):(?P<name>.+)")


class ModularImage(Image):
    """A kernel and the ``modules`` that it has loaded, each an image of its own; asked as one for places.

    All else (sections, segments, symbols, functions, words) is the kernel's alone, and a name that the kernel
    has is the kernel's.

    >>> image.symbolize(image.resolve("counter:counter_tick+0x8"))
    'counter_tick+0x8 [counter]'
    """

    def __init__(self, kernel: Image, modules: Iterable[ModuleImage]) -> None:
        _ = kernel.functions  # found once for both
        self.__dict__.update(kernel.__dict__)
        self.kernel, self.modules = kernel, {module.name: module for module in modules}

    def module_at(self, address: int) -> str | None:
        """Return the name of the module that an address is in."""
        found = (module.module_at(address) for module in self.modules.values())
        return next((name for name in found if name is not None), None)

    def part_at(self, address: int) -> Image:
        """Return the image of the module that an address is in, else the kernel's."""
        name = self.module_at(address)
        return self.kernel if name is None else self.modules[name]

    def all_functions(self) -> Sequence[Function]:
        """Return the kernel's functions, then those of its modules."""
        return [*self.functions, *chain.from_iterable(module.functions for module in self.modules.values())]

    def section_at(self, address: int) -> Section | None:
        """Return the section that ``address`` lies in."""
        return self.part_at(address).section_at(address)

    def function_at(self, address: int) -> Function | None:
        """Return the innermost function that ``address`` lies in."""
        return self.part_at(address).function_at(address)

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes as they are loaded; raise `Misuse` for addresses of nobody."""
        return self.part_at(address).read(address, size)

    def symbolize(self, address: int) -> str:
        """Return ``func+0x18``, of a module's ``func+0x18 [module]``, or ``0x…`` where nothing is near."""
        return self.part_at(address).symbolize(address)

    def symbolize_all(self, addresses: Sequence[int]) -> list[str]:
        """Return what `symbolize` does, of many addresses."""
        return [self.symbolize(address) for address in addresses]

    def matching(self, pattern: str) -> list[Function]:
        """Return the functions of which a name is like a glob; ``module:glob``, ``glob [module]`` of one."""
        match = _BEHIND.fullmatch(pattern) or _BEFORE.fullmatch(pattern)
        module = self._module(match["module"]) if match else None
        if match and module is not None:
            return self.modules[module].matching(match["name"])
        found = self.kernel.matching(pattern)
        return [*found, *chain.from_iterable(one.matching(pattern) for one in self.modules.values())]

    def near(self, name: str) -> tuple[str, ...]:
        """Return names that somebody who typed ``name`` may have meant."""
        names = (image.symbols.names.all() for image in (self.kernel, *self.modules.values()))
        return close_names(name, chain.from_iterable(names))

    def _module(self, name: str) -> str | None:
        plain = name.replace("-", "_")  # a module's file may be called otherwise
        return next((known for known in (name, plain) if known in self.modules), None)

    def _candidates(self, name: str) -> list[Symbol]:
        ours = self.kernel._candidates(name)
        return ours or [s for module in self.modules.values() for s in module._candidates(name)]

    def _of_module(self, name: str, module: str) -> list[Symbol]:
        known = self._module(module)
        if known is None:
            raise Misuse(f"'{name}' is of the module '{module}', which is not loaded")
        return [symbol for symbol in self.modules[known]._candidates(name) if symbol.section]
