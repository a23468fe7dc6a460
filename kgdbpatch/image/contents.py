"""What a format reader hands to `Image`."""

from __future__ import annotations

from dataclasses import dataclass

from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["Contents", "plainness"]


@dataclass(frozen=True, slots=True)
class Contents:
    """A kernel file taken apart.

    ``symbols`` are in the order in which they name functions: typed before untyped, exported
    before local, then by `plainness`.
    """

    entry: int
    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: tuple[Symbol, ...]


def plainness(name: str) -> tuple[int, int, str]:
    """Return a sort key by which the plainest of several names comes first: ``_f``, ``_f_alias``, ``__f``."""
    return len(name) - len(name.lstrip("_")), len(name), name
