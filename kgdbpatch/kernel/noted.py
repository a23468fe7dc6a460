"""Make the note that a patch keeps of its payload's names."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from kgdbpatch.toolchain.link import Linked
from kgdbpatch.toolchain.support import SUPPORTED
from kgdbpatch.variables import Note, pack
from kgdbpatch.variables.collect import collect

__all__ = ["noted", "using"]


def noted(
    linked: Callable[[int], Linked], source: Path, uses: Collection[int], holds: Collection[tuple[str, int]]
) -> Callable[[int], bytes]:
    """Return what makes the packed note of a payload that is ``linked`` for an address.

    ``uses`` are the patches whose names it uses, ``holds`` the modules that it keeps loaded.
    """
    now, known = int(time.time()), dict[bytes, bytes]()

    def at(address: int) -> bytes:
        placed = linked(address)
        if placed.file not in known:
            known[placed.file] = _note(placed, source, now, uses, holds)
        return known[placed.file]

    return at


def _note(
    linked: Linked, source: Path, now: int, uses: Collection[int], holds: Collection[tuple[str, int]]
) -> bytes:
    size = len(linked.code)
    found, functions = collect(linked.file, size, linked.constant_size, str(source))
    own = tuple(one for one in functions if one.name not in SUPPORTED)
    last = tuple(at - linked.address for at in linked.last)
    stage = None if linked.init_calls is None else linked.init_calls.stage
    return pack(Note(str(source), now, tuple(found), own, tuple(sorted(uses)), stage, last, tuple(holds)))


def using(source: str, uses: Collection[int]) -> bytes:
    """Return the note of a payload without names that uses those of patches, packed."""
    return pack(Note(source, int(time.time()), uses=tuple(sorted(uses))))
