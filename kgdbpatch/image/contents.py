"""What a format reader hands to `Image`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["Contents", "loaded_code", "plainest_first", "plainness"]


class Contents(NamedTuple):
    """A kernel file taken apart.

    ``symbols`` name functions in their order: typed ones, exported ones, then as `plainest_first`.
    """

    entry: int
    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: Sequence[Symbol]


def loaded_code(sections: Sequence[Section], segments: Sequence[Segment]) -> tuple[Section, ...]:
    """Return sections of which that alone is code which a segment loads; nobody executes the rest."""
    return tuple(_as_loaded(one, segments) if one.executable else one for one in sections)


def _as_loaded(section: Section, segments: Sequence[Segment]) -> Section:
    end = section.address
    while end < section.end and (segment := next((one for one in segments if end in one), None)):
        end = min(section.end, segment.end)
    size = end - section.address
    if size == section.size:
        return section
    return (
        replace(section, size=size, held=section.data[:size]) if size else replace(section, executable=False)
    )


def plainest_first(names: list[str], rank: npt.NDArray[np.int64]) -> list[int]:
    """Return the numbers of names by ``rank`` and `plainness`; by columns, as Linux has 50,000 of them."""
    ordered = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    length = np.fromiter(map(len, names), np.int64, len(names))
    underscores = np.zeros(len(names), np.int64)
    for number in [number for number, name in enumerate(names) if name[:1] == "_"]:
        underscores[number] = len(names[number]) - len(names[number].lstrip("_"))
    keys = (length[ordered], underscores[ordered], rank[ordered])
    found: list[int] = ordered[np.lexsort(keys)].tolist()
    return found


def plainness(name: str) -> tuple[int, int, str]:
    """Return a sort key by which the plainest of several names comes first: ``_f``, ``_f_alias``, ``__f``."""
    return len(name) - len(name.lstrip("_")), len(name), name
