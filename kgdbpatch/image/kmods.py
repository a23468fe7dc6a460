"""Add the extensions that a running Darwin has loaded to its kernel's image: the list at ``_kmod``.

An entry is ``kmod_info_t`` (osfmk/mach/kmod.h); version 1 ends there and knows no symbols. Version 2, our
guest's, goes on with the symbols (address and name, sorted), their strings, the size of both, and how many
bytes of code the extension begins with.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kgdbpatch.errors import BadImage, MemoryFault
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.image import Image
from kgdbpatch.image.loaded import present
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["Extension", "loaded_extensions", "with_extensions"]

Read = Callable[[int, int], bytes]

_HEAD = "kmod"
_PLAIN, _SYMBOLS = 1, 2  # info_version
_INFO = struct.Struct(">3I64s64s2I3I2I")
_MORE = struct.Struct(">5I")  # symbol_count, symbols, strings, table_size, text_size
_MOST = 1024  # extensions: more is no list
_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Extension:
    """A loaded extension: ``text_size`` bytes of code, then data; ``symbols`` are (address, name)."""

    name: str
    version: str
    address: int
    size: int
    text_size: int
    symbols: tuple[tuple[int, str], ...]
    data: bytes
    info: int = 0  # the address of its structure


def loaded_extensions(image: Image, read: Read) -> list[Extension]:
    """Return the extensions on a Darwin kernel's list, the last loaded first; none without one.

    ``read(virtual, size)`` reads the stopped guest's memory. Raises `BadImage` when the list is damaged.
    """
    if not image.symbols.called(image.symbol_prefix + _HEAD):
        return []
    try:
        return list(_walk(image, read))
    except MemoryFault as error:
        raise BadImage(image.path, f"the list of extensions is damaged: {error}") from error


def _walk(image: Image, read: Read) -> Iterator[Extension]:
    (at,) = struct.unpack(">I", read(image.lookup(_HEAD), 4))
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) == _MOST:
            raise BadImage(image.path, "the list of extensions has no end")
        seen.add(at)
        following, kind, _, name, version, _, _, address, size, *_ = _INFO.unpack(read(at, _INFO.size))
        sound = 0 < size <= _LARGEST and not address & 3 and address + size <= 1 << 32
        if kind not in (_PLAIN, _SYMBOLS) or not sound:
            raise BadImage(image.path, f"the extension at 0x{at:08x} is described in no known way")
        symbols: tuple[tuple[int, str], ...] = ()
        text = size
        if kind == _SYMBOLS:
            count, table, strings, table_size, text = _MORE.unpack(read(at + _INFO.size, _MORE.size))
            if not 8 * count <= strings - table <= table_size <= _LARGEST or not 0 < text <= size:
                raise BadImage(image.path, f"the symbols of the extension at 0x{at:08x} are damaged")
            symbols = tuple(_symbols(read(table, table_size), count, table))
        data = present(read, address, size)
        yield Extension(_text(name), _text(version), address, size, text, symbols, data, at)
        at = following


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("ascii", "replace")


def _symbols(raw: bytes, count: int, table: int) -> Iterator[tuple[int, str]]:
    for address, name in struct.iter_unpack(">2I", raw[: 8 * count]):
        if table <= name < table + len(raw):
            yield address, _text(raw[name - table :])


def with_extensions(image: Image, extensions: list[Extension]) -> Image:
    """Return the image with code and data of extensions as ``NAME,__text``, ``NAME,__data``."""
    sections, segments, symbols = [*image.sections], [*image.segments], [*image.symbols]
    digest = hashlib.sha256(image.sha256.encode())
    for extension in extensions:
        name, start, text = extension.name, extension.address, extension.text_size
        behind = start + text
        code = Section(f"{name},__text", start, text, extension.data[:text], True, False)
        rest = Section(f"{name},__data", behind, extension.size - text, extension.data[text:], False, True)
        sections += [code, *([rest] if rest.size else [])]
        segments.append(Segment(name, start, extension.size, extension.data))
        digest.update(start.to_bytes(4, "big") + extension.data)
        for address, symbol in sorted(extension.symbols, key=lambda pair: plainness(pair[1])):
            section, kind = (code, "function") if address in code else (rest, "object")
            if address in section:
                symbols.append(Symbol(symbol, address, 0, section.name, kind))
    contents = Contents(image.entry, tuple(sections), tuple(segments), tuple(symbols))
    return Image(image.path, image.format, digest.hexdigest(), contents, image.model)
