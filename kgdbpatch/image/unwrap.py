"""Take a kernel out of what it is wrapped in: compression, U-Boot's legacy images, Linux's boot wrappers.

A boot wrapper (zImage, cuImage) is a small program that holds the kernel's file, compressed or not, often in
``.kernel:vmlinux.strip``; else a program in it that is larger than itself.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kgdbpatch.errors import BadImage
from kgdbpatch.image.elf_header import ElfHeader
from kgdbpatch.image.uimage import MAGIC as _UIMAGE
from kgdbpatch.image.uimage import UImage

__all__ = ["Unwrapped", "unwrap"]

_MOST = 1 << 30  # bytes: more is no kernel
_DEPTH = 8
_PEEK = 64
_PIECE = 1 << 18  # bytes
_GZIP, _XZ, _BZIP2, _ELF = b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"BZh", b"\x7fELF"
_MAGIC = {_GZIP: "gzip", _XZ: "xz", _BZIP2: "bzip2"}
_PROGRAM = b"\x7fELF\x01\x02\x01"  # 32 bits, big-endian
_MACHO = {bytes.fromhex(magic) for magic in ("feedface", "cefaedfe", "feedfacf", "cffaedfe", "cafebabe")}
_ELSEWHERE = {  # what Python cannot unpack: who can
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -d"),
    b"\x02\x21\x4c\x18": ("lz4", "lz4 -d"),
    b"\x89LZO": ("lzo", "lzop -d"),
}
_TOOLS = dict(_ELSEWHERE.values())
_STRIPPED = ".kernel:vmlinux.strip"
_EXECINSTR, _NOBITS, _LOAD = 4, 8, 1
_Test = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What was inside; ``load`` and ``entry`` are where U-Boot puts it and starts it, where it does."""

    data: bytes
    load: int | None = None
    entry: int | None = None


def unwrap(path: object, data: bytes) -> Unwrapped:
    """Return what ``data`` holds behind all wrappings; raise `BadImage`, saying how to unpack the rest."""
    found = Unwrapped(data)
    for _ in range(_DEPTH):
        inner = _one(path, found)
        if inner is None:
            return found
        found = inner
    raise BadImage(path, f"packed more than {_DEPTH} times")


def _one(path: object, outer: Unwrapped) -> Unwrapped | None:
    data = outer.data
    if data.startswith(_UIMAGE):
        image = UImage.read(path, data)
        return Unwrapped(_decompress(path, image.compression, image.data), image.load, image.entry)
    for magic, how in _MAGIC.items():
        if data.startswith(magic):
            return Unwrapped(_decompress(path, how, data), outer.load, outer.entry)
    for magic, (how, _) in _ELSEWHERE.items():
        if data.startswith(magic):
            _decompress(path, how, data)
    kernel = _wrapped(path, data)
    return None if kernel is None else Unwrapped(kernel)


_DAMAGED = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def _unpack(how: str, data: bytes | memoryview, most: int = _MOST) -> tuple[bytes, bool, int]:
    """Return what a stream holds (at most so many bytes), whether that is all, and how much follows it."""
    stream: Any
    if how == "gzip":
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    elif how == "bzip2":
        stream = bz2.BZ2Decompressor()
    else:
        stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE if how == "lzma" else lzma.FORMAT_XZ)
    content: bytes = stream.decompress(data, most)
    return content, stream.eof, len(stream.unused_data)


def _decompress(path: object, how: str, data: bytes) -> bytes:
    if how == "none":
        return data
    if how in _TOOLS:
        raise BadImage(path, f"compressed with {how}, which Python lacks: unpack it first ('{_TOOLS[how]}')")
    try:
        content, complete, _ = _unpack(how, data)
    except _DAMAGED as error:
        raise BadImage(path, f"damaged {how} data: {error}") from error
    if len(content) >= _MOST:
        raise BadImage(path, f"the {how} data unpack to more than {_MOST >> 20} MiB")
    if not complete and how != "lzma":  # which need not say where it ends
        raise BadImage(path, f"truncated {how} data")
    return content


def _wrapped(path: object, data: bytes) -> bytes | None:
    """Return the kernel's file that a boot wrapper holds; None where ``data`` is none."""
    if data[:4] in _MACHO:
        return None
    if not data.startswith(_ELF):
        within = [(start, inner, held) for start, inner, held in _held(data) if len(inner) > _PEEK]
        outside = len(data) - sum(held for _, _, held in within)
        return next((inner for _, inner, _ in within if _is_program(inner) and len(inner) > outside), None)
    try:
        header = ElfHeader.read(path, data)
    except BadImage:
        return None  # told where it is read
    code = 0
    sections = header.section_headers(data)
    names = sections[header.names] if header.names < len(sections) else None
    for section in sections:
        start, size = int(section["offset"]), int(section["size"])
        at = int(names["offset"]) + int(section["name"]) if names is not None else len(data)
        if data.startswith(_STRIPPED.encode() + b"\0", at) and section["type"] != _NOBITS:
            return data[start : start + size]
        code += size if section["flags"] & _EXECINSTR else 0
    if not code:
        loaded = header.program_headers(data)
        code = int(loaded["filesz"][loaded["type"] == _LOAD].astype(int).sum())
        return next((inner for _, inner, held in _held(data, _is_program) if len(inner) > code - held), None)
    return next((inner for _, inner, _ in _held(data, _is_program) if len(inner) > code), None)


def _is_program(start: bytes) -> bool:
    """Tell whether bytes begin as a 32-bit PowerPC ELF executable does."""
    return start.startswith(_PROGRAM) and start[16:20] in (b"\0\2\0\x14", b"\0\3\0\x14")


def _held(data: bytes, wanted: _Test | None = None) -> Iterator[tuple[int, bytes, int]]:
    """Yield (offset, contents, bytes taken) of what is packed, or a program, in ``data``, if ``wanted``."""
    end = 0
    for at, magic in _places(data, (_GZIP, _XZ, _PROGRAM)):
        how = _MAGIC.get(magic, "none")
        if at < end:
            continue
        found = _stream(data, at, how, wanted)
        if found is not None:
            end = at + found[1]
            yield at, *found


def _places(data: bytes, magics: tuple[bytes, ...]) -> list[tuple[int, bytes]]:
    """Return (offset, magic) of what stands in ``data``, but at its start; by their first two bytes."""
    found = []
    for start in range(1, len(data) - 1, _PIECE):
        for offset in (start, start + 1):
            pairs = np.frombuffer(data, np.uint16, min(_PIECE, len(data) - offset) // 2, offset)
            likely = np.zeros(len(pairs), np.bool_)
            for magic in magics:
                likely |= pairs == np.frombuffer(magic, np.uint16, 1)
            for at in (offset + 2 * np.flatnonzero(likely)).tolist():
                found += [(at, magic) for magic in magics if data.startswith(magic, at)]
    return sorted(found)


def _stream(data: bytes, at: int, how: str, wanted: _Test | None) -> tuple[bytes, int] | None:
    """Return contents and size of the stream at an offset; None where there is none, or none wanted."""
    if how == "none":
        size = _program_size(data, at)
        return (data[at : at + size], size) if size and at + size <= len(data) else None
    rest = memoryview(data)[at:]
    try:
        if wanted is not None and not wanted(_unpack(how, rest, _PEEK)[0]):
            return None
        content, complete, behind = _unpack(how, rest)
    except _DAMAGED:
        return None
    return (content, len(rest) - behind) if complete else None


def _program_size(data: bytes, at: int) -> int:
    """Return how many bytes an ELF program inside ``data`` takes; 0 where it is none."""
    head = data[at : at + 52]
    if len(head) < 52 or not _is_program(head):
        return 0
    try:
        header = ElfHeader.read("", data[at:])
    except BadImage:
        return 0
    programs, sections = header.program_headers(data[at:]), header.section_headers(data[at:])
    ends = [header.segments_at + 32 * header.segments, header.sections_at + 40 * header.sections]
    ends += (programs["offset"].astype(int) + programs["filesz"].astype(int)).tolist()
    kept = sections[sections["type"] != _NOBITS]
    ends += (kept["offset"].astype(int) + kept["size"].astype(int)).tolist()
    return int(max(ends))
