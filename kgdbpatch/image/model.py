"""What a kernel file consists of: segments, sections, symbols, functions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from kgdbpatch.image.source import Held

__all__ = ["Function", "Section", "Segment", "Symbol"]


@dataclass(frozen=True, repr=False)
class _Part:
    """A range of addresses and what is ``held`` of it: bytes, or where in the file they come from."""

    name: str
    address: int
    size: int
    held: bytes | Held

    @cached_property
    def data(self) -> bytes:
        """What the file holds of the part."""
        return bytes(self.held)

    @property
    def end(self) -> int:
        """Return the address behind the last byte."""
        return self.address + self.size

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.end

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, 0x{self.address:08x}, 0x{self.size:x})"


@dataclass(frozen=True, repr=False)
class Section(_Part):
    """A section: ``__TEXT,__text`` or ``.text``; the file holds ``data`` of it, from ``offset`` on."""

    executable: bool
    writable: bool
    offset: int = 0


@dataclass(frozen=True, repr=False)
class Segment(_Part):
    """A loaded one: ``data`` from ``offset`` on, then zeros; ``physical`` is None where that is not told."""

    offset: int = 0
    physical: int | None = None


class Symbol(NamedTuple):
    """A defined symbol; ``kind`` is ``function``, ``label`` (inside code), ``object`` or ``absolute``.

    ``size`` is 0 where the file gives none; ``section`` is "" for absolute ones.
    """

    name: str
    address: int
    size: int
    section: str
    kind: str
    exported: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A routine: ``size`` bytes at ``address``, its names; ``guessed``: only the code's looks say so."""

    name: str
    address: int
    size: int
    aliases: tuple[str, ...]
    section: str
    guessed: bool = False

    @property
    def end(self) -> int:
        """Return the address behind the last instruction."""
        return self.address + self.size

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.end
