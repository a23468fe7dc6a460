"""Remember what is in large kernel files: reading Linux takes 0.3 s, importing LIEF for Mach-O as long.

An entry is named by the file's SHA-256 and by that of the code that reads such files. It holds
plain tuples (marshal) behind their own digest; whatever is wrong with it, it is as good as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import tempfile
from functools import cache
from pathlib import Path

from kgdbpatch.image.contents import Contents
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["load", "save"]

_DIGEST = 32


@cache
def _readers() -> str:
    """Return a digest of the code that decides what an entry says."""
    here = Path(__file__).parent
    names = (
        "cache.py",
        "contents.py",
        "elf.py",
        "kext.py",
        "macho.py",
        "model.py",
        "relocate.py",
        "sniff.py",
    )
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in names)).hexdigest()[:12]


def _path(sha256: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    home = (Path(base) if base else Path.home() / ".cache") / "kgdbpatch"
    root = Path(os.environ.get("KGDBPATCH_CACHE") or home)
    return root / "images" / f"{sha256[:32]}-{_readers()}"


def load(sha256: str, data: bytes) -> Contents | None:
    """Return what is remembered of the file with these contents, or None."""
    try:
        raw = _path(sha256).read_bytes()
        if hashlib.sha256(raw[_DIGEST:]).digest() != raw[:_DIGEST]:
            return None
        entry, sections, segments, symbols = marshal.loads(raw[_DIGEST:])
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return Contents(
        entry=entry,
        sections=tuple(
            Section(name, address, size, data[offset : offset + held], executable, writable, offset)
            for name, address, size, offset, held, executable, writable in sections
        ),
        segments=tuple(
            Segment(name, address, size, data[offset : offset + held], offset)
            for name, address, size, offset, held in segments
        ),
        symbols=tuple(Symbol(*fields) for fields in symbols),
    )


def save(sha256: str, contents: Contents) -> None:
    """Remember a file's contents; where there is no room for that, do nothing."""
    body = marshal.dumps(
        (
            contents.entry,
            [
                (s.name, s.address, s.size, s.offset, len(s.data), s.executable, s.writable)
                for s in contents.sections
            ],
            [(s.name, s.address, s.size, s.offset, len(s.data)) for s in contents.segments],
            [(s.name, s.address, s.size, s.section, s.kind, s.exported) for s in contents.symbols],
        )
    )
    with contextlib.suppress(OSError, RuntimeError):
        path = _path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as scratch:
            scratch.write(hashlib.sha256(body).digest() + body)
        Path(scratch.name).replace(path)
