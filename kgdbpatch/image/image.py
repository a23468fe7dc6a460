"""`Image`: a kernel file, asked by name and by address (the paper's MachLoader, 3.2.1)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from fnmatch import translate
from functools import cache as once
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.errors import BadImage, Misuse, UnknownSymbol
from kgdbpatch.image import cache, spelling
from kgdbpatch.image.contents import Contents, loaded_code
from kgdbpatch.image.functions import delimit
from kgdbpatch.image.model import Function, Section, Segment, Symbol
from kgdbpatch.image.near import close_names
from kgdbpatch.image.source import KernelFile
from kgdbpatch.image.symbols import FunctionTable, SymbolTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kgdbpatch.image.unwrap import Unwrapped
    from kgdbpatch.isa.abi import ABI

__all__ = ["Image"]

_address = attrgetter("address")


class Image:
    """A statically linked kernel: Mach-O, ELF or raw (``format``), for a ``model`` of CPU, "" mostly.

    >>> image = Image.load("vmlinux")
    >>> image.symbolize(image.resolve("udp_sendmsg+0x18"))
    'udp_sendmsg+0x18'
    """

    def __init__(self, path: Path, kind: str, sha256: str, contents: Contents, model: str = "") -> None:
        self.path = path
        self.format = kind
        self.sha256 = sha256
        self.model = model
        self.entry = contents.entry
        self.sections: tuple[Section, ...] = contents.sections
        self.segments: tuple[Segment, ...] = contents.segments
        self.symbols = _table(contents.symbols)

    @classmethod
    def load(cls, path: str | Path) -> Image:
        """Read a kernel file; raise `BadImage`, one line, for whatever is no such file."""
        path = Path(path)
        file = KernelFile(path)
        known = cache.load(file.sha256, lambda plain: file.read if plain else _inside(path, file))
        if known is None:
            known = _read(path, file)
        if not any(section.executable for section in known.contents.sections):
            raise BadImage(path, "no section with code in it")
        image = cls(path, known.kind, file.sha256, known.contents, known.model)
        image.functions = known.functions
        return image

    def __repr__(self) -> str:
        return f"Image({str(self.path)!r}, {self.format}, entry 0x{self.entry:08x})"

    @property
    def symbol_prefix(self) -> str:
        """Return what the compiler puts before a C name: ``_`` for Mach-O, nothing for ELF."""
        return "_" if self.format == "mach-o" else ""

    @property
    def abi(self) -> ABI:
        """Return the calling convention: Darwin's for Mach-O, SysV for ELF."""
        from kgdbpatch.isa.abi import DARWIN, SYSV

        return DARWIN if self.format == "mach-o" else SYSV

    @cached_property
    def functions(self) -> FunctionTable:
        """Return all functions, sorted by address."""
        return _delimited(self.format, self.symbols, self.sections)

    def with_guessed(self, places: Iterable[tuple[int, int]]) -> Image:
        """Return the image with guessed functions ``sub_…`` at ``places`` (address, bytes)."""
        guessed = []
        for address, size in places:
            section = self.section_at(address)
            if section is not None:
                guessed.append(Function(f"sub_{address:08x}", address, size, (), section.name, guessed=True))
        symbols = [Symbol(f.name, f.address, f.size, f.section, "function") for f in guessed]
        contents = Contents(self.entry, self.sections, self.segments, [*self.symbols, *symbols])
        image = Image(self.path, self.format, self.sha256, contents, self.model)
        image.functions = FunctionTable.of(sorted((*self.functions, *guessed), key=_address))
        return image

    def on(self, model: str) -> Image:
        """Return the image as a CPU of a model has it, whatever the file says that it is for."""
        if model == self.model:
            return self
        image = copy(self)
        image.model = model
        return image

    def code_sections(self) -> tuple[Section, ...]:
        """Return the sections that hold instructions."""
        return tuple(section for section in self.sections if section.executable)

    def words(self, section: Section) -> NDArray[np.uint32]:
        """Return a section's whole words, in this machine's byte order."""
        data = section.data
        return np.frombuffer(data, dtype=">u4", count=len(data) // 4).astype(np.uint32)

    def module_at(self, address: int) -> str | None:
        """Return the name of the module that ``address`` is in, where an image knows of modules."""
        return None

    def part_at(self, address: int) -> Image:
        """Return the image of what ``address`` is in: of the kernel, or of a module."""
        return self

    def section_at(self, address: int) -> Section | None:
        """Return the section that ``address`` lies in."""
        return next((section for section in self.sections if address in section), None)

    def matching(self, pattern: str) -> list[Function]:
        """Return the functions of which a name is like a glob, with or without the symbol prefix."""
        globs = (translate(pattern), translate(self.symbol_prefix + pattern))
        return self.functions.named(re.compile("|".join(globs)))

    def all_functions(self) -> Sequence[Function]:
        """Return the functions of all that is asked as one."""
        return self.functions

    def function_at(self, address: int) -> Function | None:
        """Return the innermost function that ``address`` lies in."""
        return self.functions.around(address)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes as the booter loads them, zero-filled memory included; `Misuse` beyond them."""
        out = bytearray()
        while len(out) < size:
            at = address + len(out)
            segment = next((s for s in self.segments if at in s), None)
            if segment is None:
                raise Misuse(f"0x{at:08x} is not part of {self.path.name}")
            offset = at - segment.address
            count = min(size - len(out), segment.size - offset)
            out += segment.data[offset : offset + count].ljust(count, b"\0")
        return bytes(out)

    def _candidates(self, name: str) -> list[Symbol]:
        """Return the symbols that a name may mean: a C function before a label that is spelt as in C."""
        exact = self.symbols.called(name)
        if exact and (not self.symbol_prefix or any(s.kind == "function" for s in exact)):
            return exact
        return self.symbols.called(self.symbol_prefix + name) or exact

    def knows(self, name: str) -> bool:
        """Tell whether a name may mean a symbol; the name may lack the format's prefix."""
        return bool(self._candidates(name))

    def exports(self, name: str) -> bool:
        """Tell whether a name means a symbol that all files of the kernel see."""
        return any(symbol.exported for symbol in self._candidates(name))

    def lookup(self, name: str) -> int:
        """Return a symbol's address, a C function's before a Mach-O label's; prefix or not.

        Raises `UnknownSymbol` with close names, or `Misuse` when several local symbols share the name.
        """
        return self._address(name, self._candidates(name))

    def _address(self, name: str, symbols: list[Symbol]) -> int:
        if not symbols:
            raise UnknownSymbol(name, self.path.name, self.near(name))
        symbols = [s for s in symbols if s.exported] or symbols
        addresses = sorted({symbol.address for symbol in symbols})
        if len(addresses) > 1:
            places = ", ".join(f"0x{address:08x}" for address in addresses)
            raise Misuse(f"'{name}' is ambiguous in {self.path.name}: {places}; give an address")
        return addresses[0]

    def near(self, name: str) -> tuple[str, ...]:
        """Return names that somebody who typed ``name`` may have meant."""
        return close_names(name, self.symbols.names.all())

    def resolve(self, site: str) -> int:
        """Return the address of a place, spelt as `spelling` says, a symbol before a number.

        Raises `Misuse` for what is no place, or two places, and `UnknownSymbol` with close names.
        """
        if self._candidates(site.strip()):
            return self.lookup(site.strip())
        spelt = spelling.read(site)
        if spelt is None:
            near = self.near(site.split("+")[0].strip())
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise Misuse(f"'{site}' is no site: write func, func+0x18 or 0x…{hint}")
        if spelt.size is not None and spelt.offset >= spelt.size:
            raise Misuse(f"'{site}': 0x{spelt.offset:x} lies beyond the 0x{spelt.size:x} bytes that it says")
        address = spelt.address
        if spelt.name is not None:
            named = self._base(spelt.name, spelt.module) + spelt.offset
            if address is not None and address != named:
                raise Misuse(f"'{site}' means two places: 0x{address:08x} and, by its name, 0x{named:08x}")
            address = named
        if address is None or address > 0xFFFF_FFFF:
            raise Misuse(f"'{site}' lies beyond the 32-bit address space")
        return address

    def _base(self, name: str, module: str | None) -> int:
        """Return the address of a symbol, of a module's symbol, or that a number is."""
        symbols = self._candidates(name)
        if module is None and not symbols and ":" in name:
            module, _, name = name.partition(":")
        if module is not None:
            symbols = self._of_module(name, module)
        number = spelling.address_of(name)
        if symbols or module is not None or number is None:
            return self._address(name, symbols)
        return number

    def _of_module(self, name: str, module: str) -> list[Symbol]:
        """Return what a name may mean in one module."""
        if not any(section.name.startswith(f"{module},") for section in self.sections):
            raise Misuse(f"'{name}' is of the module '{module}', which is not part of {self.path.name}")
        return [s for s in self._candidates(name) if s.section.startswith(f"{module},")]

    def symbolize(self, address: int) -> str:
        """Return ``func+0x18``, or ``object+0x4`` for data, or ``0x…`` where nothing is near."""
        function = self.function_at(address)
        if function is not None:
            return _plus(function.name, address - function.address)
        section = self.section_at(address)
        symbol = None if section is None else self.symbols.before(address)
        if section is not None and symbol is not None and symbol.section == section.name:
            return _plus(symbol.name, address - symbol.address)
        return f"0x{address:08x}"

    def symbolize_all(self, addresses: Sequence[int]) -> list[str]:
        """Return what `symbolize` does, of many addresses."""
        found = self.functions.begun(addresses)
        return [
            self.symbolize(address) if place is None else _plus(*place)
            for address, place in zip(addresses, found, strict=True)
        ]


def _table(symbols: Sequence[Symbol]) -> SymbolTable:
    return symbols if isinstance(symbols, SymbolTable) else SymbolTable.of(symbols)


def _delimited(kind: str, symbols: SymbolTable, sections: tuple[Section, ...]) -> FunctionTable:
    return delimit(symbols, sections, labels=kind == "elf")


def _inside(path: Path, file: KernelFile) -> Callable[[int, int], bytes]:
    """Return what reads the kernel in a file that holds more than it, or it in another form."""

    kernel = once(lambda: _unwrapped(path, file.read())[1].data)
    return lambda begin, end: kernel()[begin:end]


def _unwrapped(path: Path, whole: bytes) -> tuple[str, Unwrapped]:
    """Return the kernel in a file and its format."""
    from kgdbpatch.image.sniff import kernel_slice
    from kgdbpatch.image.unwrap import unwrap

    inner = unwrap(path, whole)
    kind, data = kernel_slice(path, inner.data, placed=inner.load is not None)
    return kind, replace(inner, data=data)


def _read(path: Path, file: KernelFile) -> cache.Known:
    """Take a file apart, and remember what is in it."""
    from kgdbpatch.image.cpu import model_of

    whole = file.read()
    kind, kernel = _unwrapped(path, whole)
    data, contents = kernel.data, _parse(path, kind, kernel)
    sections = loaded_code(contents.sections, contents.segments)
    symbols = _table(contents.symbols)
    functions = _delimited(kind, symbols, sections)
    contents = contents._replace(sections=sections, symbols=symbols)
    known = cache.Known(kind, model_of(kind, data), data == whole, contents, symbols, functions)
    cache.save(file.sha256, data, known)
    return known


def _parse(path: Path, kind: str, kernel: Unwrapped) -> Contents:
    # Imported on use: LIEF takes 0.4 s to import.
    from kgdbpatch.image.raw import read_raw
    from kgdbpatch.image.sniff import is_kext

    data = kernel.data
    read: Callable[[object, bytes], Contents]
    if kind == "mach-o" and is_kext(data):
        from kgdbpatch.image.kext import read_kext as read
    elif kind == "mach-o":
        from kgdbpatch.image.macho import read_macho as read
    else:
        from kgdbpatch.image.elf import read_elf as read
    try:
        if kind == "raw":
            return read_raw(path, data, kernel.load, kernel.entry)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # LIEF's, of numbers that it cannot name
            return read(path, data)
    except BadImage:
        raise
    except (ValueError, RuntimeError) as error:  # a library's, of a number or name that it cannot hold
        raise BadImage(path, f"damaged: {' '.join(str(error).split())}") from error


def _plus(name: str, offset: int) -> str:
    return f"{name}+0x{offset:x}" if offset else name
