"""The kernel's names in a payload: those that it uses, and those that it defines anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image import Image

if TYPE_CHECKING:
    from kgdbpatch.toolchain.compile import CObject

__all__ = ["known", "shadowed"]


def known(names: Iterable[str], lookup: Callable[[str], int]) -> Iterator[int]:
    """Yield the addresses of those names that the kernel has."""
    for name in names:
        try:
            yield lookup(name)
        except (UnknownSymbol, Misuse):
            continue


def shadowed(image: Image, compiled: CObject) -> tuple[str, ...]:
    """Return warnings about the kernel's names that a payload defines anew."""
    found = []
    for name, kind in compiled.exported:
        try:
            address = image.lookup(name)
        except UnknownSymbol:
            continue
        except Misuse:  # several of that name
            where = "the kernel has such names"
        else:
            where = f"the kernel's {image.symbolize(address)} at 0x{address:08x} is another"
        found.append(
            f"{compiled.origins.get(name, compiled.path)}: defines a {kind} '{name}' of its own, {where}; "
            "declare it extern to mean the kernel's, static to mean your own"
        )
    return tuple(found)
