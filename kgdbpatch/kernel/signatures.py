"""Compare a function that takes another's place with the kernel's, where debug information has both."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage, Refused, UnknownSymbol, WrongKernel
from kgdbpatch.patch.replace import redirects

if TYPE_CHECKING:
    from kgdbpatch.image import Function, Image
    from kgdbpatch.patch.payload import Replacement
    from kgdbpatch.patch.site import Site
    from kgdbpatch.types import KernelTypes
    from kgdbpatch.types.model import Function as Prototype

__all__ = ["compared", "differs", "prototype_of"]

# what GCC and clang make of a function for some of its callers, or a part of it
_CLONE = re.compile(r"\.(isra|constprop|part|cold|llvm|specialized)\b")
_IMAGES = 8  # whose types are held


def compared(
    image: Image, site: Site, function: Function, new: Replacement, *, force: bool
) -> tuple[Site, tuple[str, ...]]:
    """Return a site where ``new`` replaces ``function``, or what is called there, and what to warn of.

    Raises `Refused` (rule ``signature``) for another signature, which with ``force`` is noted in the site.
    """
    if new.prototype is None or not (site.entered or redirects(site)):
        return site, ()
    prototype, target = new.prototype(), site.instruction.target
    if prototype is None:
        return site, ("the signature was not compared: the payload has no debug information",)
    old = target if redirects(site) and target is not None else function.address
    refused, told = differs(image, old, prototype)
    if refused is not None:
        if not force:
            raise refused
        site = site._replace(forced=(*site.forced, refused.rule))
    return site, (told,) if told else ()


def differs(image: Image, address: int, new: Prototype) -> tuple[Refused | None, str]:
    """Return why the function at ``address`` cannot be stood for by ``new``, and what to warn of.

    Nothing is compared where nothing tells of the kernel's: no debug information, a module's function.
    """
    from kgdbpatch.types import same_signature
    from kgdbpatch.types.declare import prototype

    function = image.function_at(address)
    if function is None or function.address != address or image.module_at(address) is not None:
        return None, ""
    types = _types(image.part_at(address))
    if types is None:
        return None, ""
    clone = _CLONE.search(function.name)
    if clone is not None and not _plain_names(function):
        told = f"the compiler made it of another ({clone[0]}): its parameters are not those of the source"
        return Refused("signature", f"{image.symbolize(address)}: {told}", address), ""
    for name in _plain_names(function):
        try:
            old = types.signature(name)
        except UnknownSymbol:
            continue
        found = same_signature(new, old)
        if not found:
            return None, ""
        if _several(image, name):
            told = f"the kernel has several functions '{name}': its signature was not compared"
            return None, told
        shown = (
            f"{whose} '{prototype(one).rstrip(';')}'"
            for whose, one in (("yours is", new), ("the kernel's", old))
        )
        why = f"its signature is another: {'; '.join(found)}; {', '.join(shown)}"
        return Refused("signature", f"{image.symbolize(address)}: {why}", address), ""
    return None, ""


def prototype_of(image: Image, address: int) -> Prototype | None:
    """Return the prototype of the function at an address; None where nothing tells of it, or of several.

    What the compiler made of a function for some of its callers has other parameters.
    """
    function = image.function_at(address)
    if function is None or function.address != address or image.module_at(address) is not None:
        return None
    types = _types(image.part_at(address))
    for name in _plain_names(function) if types is not None else ():
        try:
            found = types.signature(name) if types is not None else None
        except UnknownSymbol:
            continue
        return None if _several(image, name) else found
    return None


def _plain_names(function: Function) -> list[str]:
    """Return what debug information may call a function: Darwin's names begin with a ``_`` more."""
    names = [name for name in (function.name, *function.aliases) if not _CLONE.search(name)]
    return list(dict.fromkeys([*names, *(name.removeprefix("_") for name in names)]))


def _several(image: Image, name: str) -> bool:
    return sum(name in _plain_names(one) for one in image.matching(name)) > 1


@lru_cache(_IMAGES)
def _types(image: Image) -> KernelTypes | None:
    from kgdbpatch.types import KernelTypes

    try:
        types = KernelTypes.of(image)
        _ = types.index
    except (BadImage, WrongKernel):  # none, or unreadable: nothing can be compared
        return None
    return types
