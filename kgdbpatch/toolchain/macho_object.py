"""Mach-O object files as ELF ones."""

from __future__ import annotations

from pathlib import Path

from kgdbpatch.errors import BadPatch

__all__ = ["elf_of", "is_macho"]

_MAGICS = (b"\xfe\xed\xfa\xce", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe")


def is_macho(head: bytes) -> bool:
    """Tell whether a file begins as Mach-O files do."""
    return head[:4] in _MAGICS


def elf_of(data: bytes, path: Path) -> bytes:
    raise BadPatch(f"{path}: a Mach-O object file is not read")
