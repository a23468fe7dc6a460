"""What a name in a payload means: the kernel's, a standing patch's, a loaded module's or extension's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image.modular import ModularImage

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.image.kmods import Extension
    from kgdbpatch.kernel.patch_names import PatchNames

__all__ = ["Meaning", "PayloadNames"]

_QUALIFIED = re.compile(r"([\w.-]+):(?!:)(.+)")
_OF_THE_KERNEL = "kernel"


class Meaning(NamedTuple):
    """An address and whose it is: a patch's (its id), a module's (its name), else the kernel's."""

    address: int
    patch: int | None = None
    module: str | None = None

    @property
    def owner(self) -> str:
        """What `KGP_OF` calls whose it is."""
        return self.module or (_OF_THE_KERNEL if self.patch is None else str(self.patch))


class PayloadNames:
    """The names that payloads may use; ``extensions()`` returns those that a Darwin has loaded."""

    def __init__(
        self, patches: PatchNames, image: Image, extensions: Callable[[], Sequence[Extension]]
    ) -> None:
        self._patches, self._image, self._ask = patches, image, extensions
        self._kernel = image.kernel if isinstance(image, ModularImage) else image

    def find(self, name: str) -> Meaning:
        """Return what a name means.

        A plain one is the kernel's where all its files see it; else a standing patch's or that of a loaded
        module or extension, of those that other files see; else a local one of the kernel's, then of a
        module's. ``kernel:name``, ``3:name``, ``file:name`` and ``module:name`` say whose. Raises
        `UnknownSymbol`, and `Misuse`, all candidates shown, for what may be several.
        """
        match = _QUALIFIED.fullmatch(name)
        if match is not None:
            return self._of(name, match[1], match[2])
        if self._kernel.exports(name):
            return Meaning(self._kernel.lookup(name))
        found = [*self._of_patches(name), *self._of_loaded(name)]
        if self._kernel.knows(name):
            if not found:
                return Meaning(self._kernel.lookup(name))
            found.insert(0, Meaning(self._kernel._candidates(name)[0].address))
        found = found or [*dict.fromkeys(self._of_loaded(name, local=True))]
        if not found:
            return Meaning(self._image.lookup(name))  # which raises, with close names
        if len(found) > 1:
            raise _ambiguous(name, found)
        return found[0]

    def _of(self, whole: str, owner: str, name: str) -> Meaning:
        if owner == _OF_THE_KERNEL:
            return Meaning(self._kernel.lookup(name))
        found = list(self._of_loaded(name, owner) or self._of_loaded(name, owner, local=True))
        if self._patches.called(owner) or not self._is_loaded(owner):
            address, patch = self._patches.lookup(whole)
            found.append(Meaning(address, patch))
        if not found:
            raise UnknownSymbol(name, owner, ())
        if len({one.address for one in found}) > 1:
            raise _ambiguous(name, found)
        return found[0]

    def _of_patches(self, name: str) -> Iterator[Meaning]:
        for one in self._patches.noted:
            yield from dict.fromkeys(
                Meaning(at, one.record.id) for known, at in one.exported() if known == name
            )

    def _of_loaded(self, name: str, owner: str | None = None, *, local: bool = False) -> list[Meaning]:
        """Return what a name is in modules and extensions, of those that other files see, or of all."""
        found = []
        if isinstance(self._image, ModularImage):
            for module, image in self._image.modules.items():
                if owner is None or owner.replace("-", "_") == module.replace("-", "_"):
                    symbols = [one for one in image._candidates(name) if one.section]
                    found += [Meaning(one.address, None, module) for one in symbols if local or one.exported]
        spelt = (self._image.symbol_prefix + name, name)
        for extension in self._extensions:
            if owner is None or owner in (extension.name, extension.name.rpartition(".")[2]):
                found += [Meaning(at, None, extension.name) for at, one in extension.symbols if one in spelt]
        return [*dict.fromkeys(found)]

    def _is_loaded(self, owner: str) -> bool:
        known = [*self._image.modules] if isinstance(self._image, ModularImage) else []
        plain = owner.replace("-", "_")
        extensions = (part for one in self._extensions for part in (one.name, one.name.rpartition(".")[2]))
        return plain in (one.replace("-", "_") for one in known) or owner in extensions

    @cached_property
    def _extensions(self) -> Sequence[Extension]:
        return self._ask()


def _ambiguous(name: str, found: Sequence[Meaning]) -> Misuse:
    where = ", ".join(f"{one.owner}:{name} at 0x{one.address:08x}" for one in found)
    return Misuse(f"'{name}' is ambiguous: {where}; say which (KGP_OF in C)")
