"""Read a raw binary: a Linux by the symbols that it keeps of itself, anything else by where it is loaded."""

from __future__ import annotations

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.kallsyms import Kallsyms, KernelSymbol, find_kallsyms
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["linux_contents", "own_symbols", "read_raw"]

_BANNER = b"Linux version "


def read_raw(path: object, data: bytes, load: int | None, entry: int | None) -> Contents:
    """Take apart the raw binary ``data``, which a loader puts at ``load`` and starts at ``entry``.

    Of a Linux that keeps its symbols addresses are virtual, its first byte the first physically where nothing
    says otherwise (arch/powerpc/kernel/vmlinux.lds.S). Raises `BadImage` where no address is known.
    """
    found = find_kallsyms(data)
    if found is not None:
        return linux_contents(path, data, found, load or 0)
    if load is None or entry is None:
        raise BadImage(path, "a raw Linux without symbols (kallsyms), of which nothing tells the address")
    if load + len(data) > 1 << 32:
        raise BadImage(path, "the raw binary ends beyond the 32-bit address space")
    return Contents(
        entry=entry,
        sections=(Section("raw", load, len(data), data, True, True),),
        segments=(Segment("raw", load, len(data), data, 0, load),),
        symbols=(),
    )


def linux_contents(name: object, memory: bytes, kallsyms: Kallsyms, load: int | None) -> Contents:
    """Return the kernel in ``memory``, physically at ``load`` (None: not known); or raise `BadImage`."""
    by_name = {symbol.name: symbol.address for symbol in reversed(kallsyms.symbols)}
    try:
        text, etext = by_name["_stext"], by_name["_etext"]
    except KeyError as error:
        raise BadImage(name, f"the kernel in memory has no symbol {error}") from error
    end = max(by_name.get("_end", 0), etext)
    offset = _offset(memory, by_name, text)
    if not text < etext or text - offset < 0 or etext - offset > len(memory):
        raise BadImage(name, f"the kernel's code, 0x{text:08x}..0x{etext:08x}, is not all there")
    loaded = memory[text - offset : end - offset]
    physical = None if load is None else load + text - offset
    sections = (
        Section(".text", text, etext - text, loaded[: etext - text], True, False, 0),
        Section(".rest", etext, end - etext, loaded[etext - text :], False, True, etext - text),
    )
    return Contents(
        entry=text,
        sections=sections,
        segments=(Segment("memory", text, end - text, loaded, 0, physical),),
        symbols=own_symbols(kallsyms, sections),
    )


def own_symbols(kallsyms: Kallsyms, sections: tuple[Section, ...]) -> tuple[Symbol, ...]:
    """Return the symbols that a Linux keeps of itself, in the order of `Contents`."""
    symbols = [_symbol(symbol, sections) for symbol in kallsyms.symbols]
    symbols.sort(key=lambda s: (s.kind != "function", not s.exported, *plainness(s.name)))
    return tuple(symbols)


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
