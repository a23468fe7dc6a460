"""All that a kernel's symbols name, functions and data alike: as rows, by glob, by address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.errors import Misuse
from kgdbpatch.image.modular import ModularImage

if TYPE_CHECKING:
    from kgdbpatch.image.image import Image
    from kgdbpatch.image.model import Symbol

__all__ = ["NamedPlace", "all_symbols", "matching_symbols", "names_between", "symbol_at"]

_OF_MODULE = re.compile(r"(?P<name>.*\S)\s+\[(?P<module>[\w.-]+)\]|(?P<before>[\w.-]+):(?P<behind>[^:].*)")


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """What begins at an address: its names, bytes (0 where nobody tells), section ("" for absolute ones).

    ``kind`` is ``function``, ``label``, ``object`` or ``absolute``, in a guest ``patch`` too.
    """

    name: str
    address: int
    size: int
    aliases: tuple[str, ...]
    section: str
    kind: str
    guessed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return all its names."""
        return self.name, *self.aliases


def _parts(image: Image) -> list[tuple[str | None, Image]]:
    """Return the images that an image asks as one, with the name of those that are modules."""
    if isinstance(image, ModularImage):
        return [(None, image.kernel), *image.modules.items()]
    return [(None, image)]


def _of_part(image: Image) -> Iterator[NamedPlace]:
    groups: dict[tuple[int, str], list[Symbol]] = {}
    for symbol in image.symbols:
        groups.setdefault((symbol.address, symbol.section), []).append(symbol)
    functions = {(one.address, one.section): one for one in image.functions}
    for (address, section), group in groups.items():
        group.sort(key=lambda symbol: not symbol.exported)
        function = functions.pop((address, section), None)
        first = function.aliases if function else ()
        names = dict.fromkeys((*((function.name,) if function else ()), *first, *(one.name for one in group)))
        size = function.size if function else max(one.size for one in group)
        kinds = {one.kind for one in group}
        kind = "function" if function else next(one for one in _KINDS if one in kinds)
        guessed = function.guessed if function else False
        yield NamedPlace(next(iter(names)), address, size, (*names,)[1:], section, kind, guessed)
    for one in functions.values():  # without symbols
        yield NamedPlace(one.name, one.address, one.size, one.aliases, one.section, "function", one.guessed)


_KINDS = ("object", "label", "function", "absolute")


def all_symbols(image: Image) -> list[NamedPlace]:
    """Return everything that has a name, by address, the kernel's before its modules'."""
    found: list[NamedPlace] = []
    for _, part in _parts(image):
        found += sorted(_of_part(part), key=lambda one: (one.address, one.section))
    return found


def matching_symbols(image: Image, pattern: str) -> list[NamedPlace]:
    """Return what has a name like a glob, with or without the symbol prefix; ``module:glob`` of one module.

    Raises `Misuse` with near names when there is none.
    """
    named, wanted, glob = _OF_MODULE.fullmatch(pattern), None, pattern
    if named is not None:
        wanted = (named["module"] or named["before"]).replace("-", "_")
        glob = named["name"] or named["behind"]
    parts = [part for module, part in _parts(image) if wanted is None or module == wanted]
    if wanted is not None and not parts:
        raise Misuse(f"no module '{wanted}' is part of {image.path.name}")
    either = re.compile("|".join((translate(glob), translate(image.symbol_prefix + glob))))
    rows = (row for part in parts for row in sorted(_of_part(part), key=lambda row: row.address))
    found = [row for row in rows if any(map(either.fullmatch, row.names))]
    if not found:
        near = image.near(glob.translate(str.maketrans("", "", "*?[]")))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Misuse(f"no symbol of {image.path.name} is like '{pattern}'{hint}")
    return found


def symbol_at(image: Image, address: int) -> NamedPlace | None:
    """Return what an address is in, innermost: a function, or data up to the next name; None for neither."""
    part = image.part_at(address)
    section, function = part.section_at(address), part.function_at(address)
    if function is not None:
        kind = "function"
        return NamedPlace(
            function.name, function.address, function.size, function.aliases, function.section, kind
        )
    symbol = None if section is None else part.symbols.before(address)
    if section is None or symbol is None or symbol.section != section.name:
        return None
    same = [one for one in part.symbols.called(symbol.name) if one.address == symbol.address]
    size = max((one.size for one in same), default=symbol.size)
    return NamedPlace(symbol.name, symbol.address, size, (), symbol.section, symbol.kind)


def names_between(image: Image, start: int, end: int) -> dict[int, str]:
    """Return address ─► name of whatever begins in ``[start, end)``."""
    found: dict[int, str] = {}
    for module, part in _parts(image):
        address, _ = part.symbols.places()
        for number in np.flatnonzero((address >= start) & (address < end)).tolist():
            symbol = part.symbols[number]
            if symbol.section and (symbol.address not in found or symbol.exported):
                found[symbol.address] = symbol.name if module is None else f"{symbol.name} [{module}]"
    return found
