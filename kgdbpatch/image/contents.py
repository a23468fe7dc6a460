"""What a format reader hands to `Image`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["Contents", "plainest_first", "plainness"]


@dataclass(frozen=True, slots=True)
class Contents:
    """A kernel file taken apart.

    ``symbols`` are in the order in which they name functions: typed before untyped, exported
    before local, then as `plainest_first` has them.
    """

    entry: int
    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: Sequence[Symbol]


def plainest_first(symbols: list[Symbol]) -> list[Symbol]:
    """Return symbols by `plainness`; in two passes, as Linux has 50,000 of them."""

    def rank(symbol: Symbol) -> int:
        name = symbol[0]
        return (len(name) - len(name.lstrip("_")) << 32 if name.startswith("_") else 0) | len(name)

    return sorted(sorted(symbols, key=itemgetter(0)), key=rank)


def plainness(name: str) -> tuple[int, int, str]:
    """Return a sort key by which the plainest of several names comes first: ``_f``, ``_f_alias``, ``__f``."""
    return len(name) - len(name.lstrip("_")), len(name), name
