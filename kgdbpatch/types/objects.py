"""What an object file's own debug information tells of it: a function's prototype, its structures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from kgdbpatch.types.dwarf import DwarfTypes
from kgdbpatch.types.entries import Entries
from kgdbpatch.types.model import Function, Record
from kgdbpatch.types.sections import DWARF, named_sections, read_sections

__all__ = ["otherwise", "prototype_in", "records_in"]


def prototype_in(data: bytes, function: str) -> Function | None:
    """Return the prototype of a function of an object file; None where its DWARF does not tell of it.

    Raises `BadImage` for damaged debug information.
    """
    types = _types(data)
    place = None if types is None else types.index()["function"].get(function)
    found = None if types is None or place is None else types.at(place)
    return found if isinstance(found, Function) else None


def records_in(data: bytes) -> Iterator[Record]:
    """Yield the structures and unions with a tag that an object file's DWARF has; as `prototype_in`."""
    types = _types(data)
    if types is None:
        return
    index = types.index()
    for place in (*index["struct"].values(), *index["union"].values()):
        found = types.at(place)
        if isinstance(found, Record) and found.complete and found.tag is not None:
            yield found


def otherwise(a: Record, b: Record) -> str:
    """Return in words how two structures are laid out otherwise, "" where they are alike."""
    if not (a.complete and b.complete):
        return ""
    theirs = {member.name: member for member in b.named()}
    for mine in a.named():
        other = theirs.get(mine.name)
        if other is None and (mine.name or "").startswith("__padding"):  # of a header that was made here
            continue
        if other is None:
            return f"has a member '{mine.name}' that the kernel's has not"
        if other.bit != mine.bit or other.bits != mine.bits:
            return f"has '{mine.name}' at offset {mine.offset}, the kernel's at {other.offset}"
    return "" if a.size == b.size else f"takes {a.size} bytes, the kernel's {b.size}"


def _types(data: bytes) -> DwarfTypes | None:
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        path = Path(directory, "payload.o")
        path.write_bytes(data)
        if DWARF not in named_sections(path):
            return None
        return DwarfTypes(path, Entries(read_sections(path)))
