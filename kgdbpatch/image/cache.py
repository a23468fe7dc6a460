"""Remember what is in large kernel files: reading Linux takes 0.3 s, importing LIEF for Mach-O as long.

An entry is named by the file's SHA-256 and by that of the code that reads such files. It holds
plain tuples (marshal). Bytes that stand in the file as they are loaded are kept as their place
there; any others, such as relocated code, are kept themselves.
"""

from __future__ import annotations

import hashlib
import marshal
from functools import cache
from pathlib import Path

from kgdbpatch import store
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["load", "save"]

_ROOM = "images"
_MARSHAL = 4  # the format, which all versions of Python have that we run on


@cache
def _readers() -> str:
    """Return a digest of the code that decides what an entry says."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _key(sha256: str) -> str:
    return f"{sha256[:32]}-{_readers()}"


def load(sha256: str, data: bytes) -> Contents | None:
    """Return what is remembered of the file with this digest, or None; ``data`` is its kernel."""
    body = store.load(_ROOM, _key(sha256))
    if body is None:
        return None
    entry, sections, segments, symbols = marshal.loads(body)
    return Contents(
        entry=entry,
        sections=tuple(
            Section(name, address, size, _fetch(data, kept), executable, writable, offset)
            for name, address, size, kept, executable, writable, offset in sections
        ),
        segments=tuple(
            Segment(name, address, size, _fetch(data, kept), offset, physical)
            for name, address, size, kept, offset, physical in segments
        ),
        symbols=tuple(map(Symbol._make, symbols)),
    )


def save(sha256: str, data: bytes, contents: Contents) -> None:
    """Remember what was read from ``data``; where there is no room for that, do nothing."""
    body = marshal.dumps(
        (
            contents.entry,
            [
                (s.name, s.address, s.size, _kept(data, s), s.executable, s.writable, s.offset)
                for s in contents.sections
            ],
            [(s.name, s.address, s.size, _kept(data, s), s.offset, s.physical) for s in contents.segments],
            list(map(tuple, contents.symbols)),
        ),
        _MARSHAL,
    )
    store.save(_ROOM, _key(sha256), body)


def _kept(data: bytes, part: Section | Segment) -> bytes | tuple[int, int]:
    """Return (begin, end) of a part's bytes in ``data`` where they stand there, else the bytes."""
    end = part.offset + len(part.data)
    there = memoryview(data)[part.offset : end] == part.data
    return (part.offset, end) if there else part.data


def _fetch(data: bytes, kept: bytes | tuple[int, int]) -> bytes:
    return kept if isinstance(kept, bytes) else data[kept[0] : kept[1]]
