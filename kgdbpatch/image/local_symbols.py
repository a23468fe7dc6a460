"""Which source file a local symbol of an ELF image is of: names of several files may be alike."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kgdbpatch.image.image import Image

__all__ = ["local_symbols"]

_BESIDE = ("", ".debug", ".elf")  # what is added to the image's name
Known = dict[tuple[str, str], list[int]]


def local_symbols(image: Image) -> Known:
    """Return (name of the source file, less its folder; symbol) ─► addresses, of local symbols.

    The image's own table may have lost the files' names; one beside it (``.debug``) may have them. Empty
    where nobody knows.
    """
    for ending in _BESIDE:
        path = image.path.with_name(image.path.name + ending)
        if path.is_file() and (found := _read(path, path.stat().st_mtime_ns)):
            return found
    return {}


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Known:
    found: Known = {}
    try:
        with path.open("rb") as file:
            table: Any = ELFFile(file).get_section_by_name(".symtab")
            source = ""
            for symbol in table.iter_symbols() if table is not None else ():
                info = symbol["st_info"]
                if info["type"] == "STT_FILE":
                    source = PurePosixPath(symbol.name).name
                elif info["bind"] != "STB_LOCAL":
                    break  # ELF: local ones come first
                elif source and symbol.name and symbol["st_shndx"] != "SHN_UNDEF":
                    found.setdefault((source, symbol.name), []).append(symbol["st_value"])
    except (OSError, ELFError, ValueError, KeyError):
        return {}
    return found
