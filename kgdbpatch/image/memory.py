"""Make an `Image` of a running Linux from its RAM alone: for a kernel whose file nobody has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.image import Image
from kgdbpatch.image.kallsyms import Kallsyms, KernelSymbol, find_kallsyms
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["image_from_memory"]

_BANNER = b"Linux version "
_GAP = 1 << 20  # pieces of RAM with no more than this between them are looked at as one


def image_from_memory(name: str, pieces: Iterable[tuple[int, bytes]]) -> Image:
    """Return the kernel that lies in ``pieces`` (physical address, contents) of a guest's RAM.

    Its ``.text`` is what runs, patches included; what the kernel gave back after its start is no
    code any more. Raises `BadImage` when there is no kernel that keeps its symbols.
    """
    for start, memory in _joined(pieces):
        found = find_kallsyms(memory)
        if found is not None:
            return _image(name, start, memory, found)
    raise BadImage(name, "no symbols of a Linux kernel (kallsyms) in the guest's memory")


def _joined(pieces: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    joined: list[tuple[int, bytearray]] = []
    for start, data in pieces:
        if joined and start - (joined[-1][0] + len(joined[-1][1])) <= _GAP:
            first, before = joined[-1]
            before += bytes(start - first - len(before)) + data
        else:
            joined.append((start, bytearray(data)))
    return [(start, bytes(data)) for start, data in joined]


def _image(name: str, start: int, memory: bytes, kallsyms: Kallsyms) -> Image:
    by_name = {symbol.name: symbol.address for symbol in reversed(kallsyms.symbols)}
    try:
        text, etext = by_name["_stext"], by_name["_etext"]
    except KeyError as error:
        raise BadImage(name, f"the kernel in memory has no symbol {error}") from error
    end = max(by_name.get("_end", 0), etext)
    offset = _offset(memory, by_name, text)
    if not text < etext or text - offset < 0 or end - offset > len(memory):
        raise BadImage(name, f"the kernel in memory, 0x{text:08x}..0x{end:08x}, is not all there")
    loaded = memory[text - offset : end - offset]
    sections = (
        Section(".text", text, etext - text, loaded[: etext - text], True, False, 0),
        Section(".rest", etext, end - etext, loaded[etext - text :], False, True, etext - text),
    )
    symbols = [_symbol(symbol, sections) for symbol in kallsyms.symbols]
    symbols.sort(key=lambda s: (s.kind != "function", not s.exported, *plainness(s.name)))
    contents = Contents(
        entry=text,
        sections=sections,
        segments=(Segment("memory", text, end - text, loaded, 0),),
        symbols=tuple(symbols),
    )
    return Image(Path(f"memory:{name}"), "elf", hashlib.sha256(loaded).hexdigest(), contents)


def _offset(memory: bytes, addresses: dict[str, int], text: int) -> int:
    """Return how much a virtual address is above its place in ``memory``."""
    banner = addresses.get("linux_banner")
    at = memory.find(_BANNER)
    while banner is not None and at >= 0:
        if (banner - at) % 0x1000 == 0:  # other copies of the text lie at other places of their pages
            return banner - at
        at = memory.find(_BANNER, at + 1)
    return text & ~0xFFF  # kernels without symbols of data: the first page is the text's


def _symbol(symbol: KernelSymbol, sections: tuple[Section, ...]) -> Symbol:
    section = next((s for s in sections if symbol.address in s), None)
    code = section is not None and section.executable and symbol.kind in "tTwW" and not symbol.address & 3
    kind = "function" if code else "object" if section is not None else "absolute"
    name = section.name if section is not None else ""
    return Symbol(symbol.name, symbol.address, 0, name, kind, symbol.kind.isupper())
