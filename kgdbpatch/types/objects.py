"""A function's prototype as an object file's own debug information tells of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from kgdbpatch.types.dwarf import DwarfTypes
from kgdbpatch.types.entries import Entries
from kgdbpatch.types.model import Function
from kgdbpatch.types.sections import DWARF, named_sections, read_sections

__all__ = ["prototype_in"]


def prototype_in(data: bytes, function: str) -> Function | None:
    """Return the prototype of a function of an object file; None where its DWARF does not tell of it.

    Raises `BadImage` for damaged debug information.
    """
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        path = Path(directory, "payload.o")
        path.write_bytes(data)
        if DWARF not in named_sections(path):
            return None
        types = DwarfTypes(path, Entries(read_sections(path)))
    place = types.index()["function"].get(function)
    found = None if place is None else types.at(place)
    return found if isinstance(found, Function) else None
