"""`Image`: a kernel file, asked by name and by address (the paper's MachLoader, 3.2.1)."""

from __future__ import annotations

import hashlib
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.errors import BadImage, Misuse, UnknownSymbol
from kgdbpatch.image import cache, spelling
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.cpu import model_of
from kgdbpatch.image.functions import delimit
from kgdbpatch.image.model import Function, Section, Segment, Symbol
from kgdbpatch.image.near import close_names
from kgdbpatch.image.raw import read_raw
from kgdbpatch.image.sniff import is_kext, kernel_slice
from kgdbpatch.image.unwrap import Unwrapped, unwrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kgdbpatch.isa.abi import ABI

__all__ = ["Image"]

_address = attrgetter("address")


class Image:
    """A statically linked 32-bit PowerPC kernel: Mach-O, ELF, or raw; ``format`` says which.

    ``model`` is the CPU that the file says it is for (as in `kgdbpatch.isa.models`), "" mostly.

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
        self.symbols: tuple[Symbol, ...] = contents.symbols

    @classmethod
    def load(cls, path: str | Path) -> Image:
        """Read a kernel file; raise `BadImage`, one line, for whatever is no such file."""
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadImage(path, (error.strerror or str(error)).lower()) from error
        except ValueError as error:  # a NUL in the name
            raise BadImage(repr(str(path)), str(error)) from error
        digest = hashlib.sha256(data).hexdigest()
        inner = unwrap(path, data)
        kind, data = kernel_slice(path, inner.data, placed=inner.load is not None)
        contents = cache.load(digest, data)
        if contents is None:
            contents = _parse(path, kind, Unwrapped(data, inner.load, inner.entry))
            cache.save(digest, data, contents)
        if not any(section.executable for section in contents.sections):
            raise BadImage(path, "no section with code in it")
        return cls(path, kind, digest, contents, model_of(kind, data))

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
    def functions(self) -> tuple[Function, ...]:
        """Return all functions, sorted by address."""
        return delimit(self.symbols, self.sections, labels=self.format == "elf")

    def with_guessed(self, places: Iterable[tuple[int, int]]) -> Image:
        """Return the image with functions at ``places`` (address, bytes) besides, marked as guessed.

        They are called ``sub_`` and their address, and are found by these names like others.
        """
        guessed = []
        for address, size in places:
            section = self.section_at(address)
            if section is not None:
                guessed.append(Function(f"sub_{address:08x}", address, size, (), section.name, guessed=True))
        symbols = tuple(Symbol(f.name, f.address, f.size, f.section, "function") for f in guessed)
        contents = Contents(self.entry, self.sections, self.segments, self.symbols + symbols)
        image = Image(self.path, self.format, self.sha256, contents, self.model)
        image.functions = tuple(sorted((*self.functions, *guessed), key=_address))
        return image

    def code_sections(self) -> tuple[Section, ...]:
        """Return the sections that hold instructions."""
        return tuple(section for section in self.sections if section.executable)

    def words(self, section: Section) -> NDArray[np.uint32]:
        """Return a section's whole words, in this machine's byte order."""
        data = section.data
        return np.frombuffer(data, dtype=">u4", count=len(data) // 4).astype(np.uint32)

    def section_at(self, address: int) -> Section | None:
        """Return the section that ``address`` lies in."""
        return next((section for section in self.sections if address in section), None)

    @cached_property
    def _starts(self) -> list[int]:
        return [function.address for function in self.functions]

    @cached_property
    def _reach(self) -> list[int]:
        return list(accumulate((function.end for function in self.functions), max))

    def matching(self, pattern: str) -> list[Function]:
        """Return the functions of which a name is like a glob, with or without the symbol prefix."""
        globs = (pattern, self.symbol_prefix + pattern)
        return [
            function
            for function in self.functions
            if any(fnmatchcase(n, glob) for n in (function.name, *function.aliases) for glob in globs)
        ]

    def function_at(self, address: int) -> Function | None:
        """Return the innermost function that ``address`` lies in."""
        index = bisect_right(self._starts, address) - 1
        while index >= 0 and self._reach[index] > address:
            if address in self.functions[index]:
                return self.functions[index]
            index -= 1
        return None

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes as the booter loads them, zero-filled memory included.

        Raises `Misuse` for addresses that the file does not describe.
        """
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

    @cached_property
    def _by_name(self) -> dict[str, Symbol]:
        return {symbol.name: symbol for symbol in reversed(self.symbols)}

    @cached_property
    def _again(self) -> dict[str, list[Symbol]]:
        """The symbols of names that several have, but for the first of each name."""
        again: dict[str, list[Symbol]] = {}
        first = self._by_name
        for symbol in self.symbols if len(first) < len(self.symbols) else ():
            if first[symbol.name] is not symbol:
                again.setdefault(symbol.name, []).append(symbol)
        return again

    def _called(self, name: str) -> list[Symbol]:
        first = self._by_name.get(name)
        return [] if first is None else [first, *self._again.get(name, ())]

    def _candidates(self, name: str) -> list[Symbol]:
        """Return the symbols that a name may mean: a C function before a label that is spelt as in C."""
        exact = self._called(name)
        if exact and (not self.symbol_prefix or any(s.kind == "function" for s in exact)):
            return exact
        return self._called(self.symbol_prefix + name) or exact

    def knows(self, name: str) -> bool:
        """Tell whether a name may mean a symbol; the name may lack the format's prefix."""
        return bool(self._candidates(name))

    def lookup(self, name: str) -> int:
        """Return a symbol's address; the name may lack the format's prefix.

        Of a Mach-O label ``f`` and a C function ``f`` (``_f``) it is the function. Raises
        `UnknownSymbol` with close names, or `Misuse` when several local symbols share the name.
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
        return close_names(name, self._by_name)

    def resolve(self, site: str) -> int:
        """Return the address of a place, spelt as `spelling` says: ``func+0x18``, ``0x…``, an oops line's.

        A symbol that is spelt like a number is meant before the number. Raises `Misuse` for what
        is no place, or two places, and `UnknownSymbol` with close names.
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
        if module is not None:
            if not any(section.name.startswith(f"{module},") for section in self.sections):
                raise Misuse(f"'{name}' is of the module '{module}', which is not part of {self.path.name}")
            symbols = [s for s in symbols if s.section.startswith(f"{module},")]
        number = spelling.address_of(name)
        if symbols or module is not None or number is None:
            return self._address(name, symbols)
        return number

    @cached_property
    def _named(self) -> list[Symbol]:
        return sorted((s for s in self.symbols if s.section), key=_address)

    def symbolize(self, address: int) -> str:
        """Return ``func+0x18``, or ``object+0x4`` for data, or ``0x…`` where nothing is near."""
        function = self.function_at(address)
        if function is not None:
            return _plus(function.name, address - function.address)
        section = self.section_at(address)
        index = bisect_right(self._named, address, key=_address) - 1
        if section is not None and index >= 0 and self._named[index].section == section.name:
            symbol = self._named[index]
            return _plus(symbol.name, address - symbol.address)
        return f"0x{address:08x}"


def _parse(path: Path, kind: str, kernel: Unwrapped) -> Contents:
    # Imported on use: LIEF takes 0.4 s to import.
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
