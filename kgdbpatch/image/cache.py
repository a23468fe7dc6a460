"""Remember what is in kernel files, as arrays: reading Linux takes 0.3 s, importing LIEF for Mach-O as long.

Named by SHA-256 of file and of the code that reads it; plain tuples and bytes of arrays (marshal). What
stands in the file as it is loaded is kept as its place there.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kgdbpatch import store
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.model import Section, Segment
from kgdbpatch.image.source import Held
from kgdbpatch.image.symbols import FunctionTable, SymbolTable

__all__ = ["Known", "load", "save"]

_ROOM = "images"
_MARSHAL = 4  # the format, which all versions of Python have that we run on


class Known(NamedTuple):
    """A kernel file; ``plain``: the kernel is the file itself, neither wrapped nor a part of it."""

    kind: str
    model: str
    plain: bool
    contents: Contents
    symbols: SymbolTable
    functions: FunctionTable


@cache
def _readers() -> str:
    """Return a digest of the code that decides what an entry says."""
    digest = hashlib.blake2b(sys.byteorder.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _key(sha256: str) -> str:
    return f"{sha256[:32]}-{_readers()}"


def load(sha256: str, fetch: Callable[[bool], Callable[[int, int], bytes]]) -> Known | None:
    """Return what is remembered of a file, or None; ``fetch(plain)`` returns what reads the kernel."""
    body = store.load(_ROOM, _key(sha256))
    if body is None:
        return None
    kind, model, plain, entry, sections, segments, symbols, functions = marshal.loads(body)
    read = fetch(plain)
    table = SymbolTable(symbols)
    contents = Contents(
        entry=entry,
        sections=tuple(
            Section(name, address, size, _fetch(read, kept), executable, writable, offset)
            for name, address, size, kept, executable, writable, offset in sections
        ),
        segments=tuple(
            Segment(name, address, size, _fetch(read, kept), offset, physical)
            for name, address, size, kept, offset, physical in segments
        ),
        symbols=table,
    )
    return Known(kind, model, plain, contents, table, FunctionTable(functions))


def save(sha256: str, data: bytes, known: Known) -> None:
    """Remember what was read from ``data``; where there is no room for that, do nothing."""
    contents = known.contents
    body = marshal.dumps(
        (
            known.kind,
            known.model,
            known.plain,
            contents.entry,
            [
                (s.name, s.address, s.size, _kept(data, s), s.executable, s.writable, s.offset)
                for s in contents.sections
            ],
            [(s.name, s.address, s.size, _kept(data, s), s.offset, s.physical) for s in contents.segments],
            known.symbols.columns,
            known.functions.columns,
        ),
        _MARSHAL,
    )
    store.save(_ROOM, _key(sha256), body)


def _kept(data: bytes, part: Section | Segment) -> bytes | tuple[int, int]:
    """Return (begin, end) of a part's bytes in ``data`` where they stand there, else the bytes."""
    there = data.startswith(part.data, part.offset)
    return (part.offset, part.offset + len(part.data)) if there else part.data


def _fetch(read: Callable[[int, int], bytes], kept: bytes | tuple[int, int]) -> bytes | Held:
    return kept if isinstance(kept, bytes) else Held(read, *kept)
