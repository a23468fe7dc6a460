"""Debug information (DWARF): the file that holds it, and whether it is that kernel's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadImage, Misuse, WrongKernel
from kgdbpatch.image.image import Image

__all__ = ["debug_file"]

_BESIDE = ("", ".elf", ".debug")  # what is added to the image's name
_SECTIONS = (".debug_info", ".zdebug_info")
_SAME = 0.95  # share of the functions of both files that have the same address in both


def debug_file(image: Image, given: Path | None = None, sections: Sequence[str] = _SECTIONS) -> Path:
    """Return the file with DWARF: ``given``, itself, or beside it; raise `BadImage` or `WrongKernel`.

    ``sections`` are names of those that are looked for, of which one is enough.
    """
    if given is not None:
        return _checked(image, given, sections)
    for ending in _BESIDE:
        path = image.path.with_name(image.path.name + ending)
        if path.exists() and _has_any(path, sections):
            return path if not ending else _checked(image, path, sections)
    raise BadImage(
        image.path,
        "no debug information (DWARF) in it or beside it: build the kernel with -g, or name a file",
    )


def _has_any(path: Path, sections: Sequence[str]) -> bool:
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            return any(elf.get_section_by_name(name) is not None for name in sections)
    except OSError as error:
        raise BadImage(path, (error.strerror or str(error)).lower()) from error
    except (ELFError, ValueError, KeyError, UnicodeDecodeError):
        return False


def _checked(image: Image, path: Path, sections: Sequence[str]) -> Path:
    if not _has_any(path, sections):
        raise BadImage(path, "no debug information (DWARF) in it")
    if not _same_kernel(image, Image.load(path)):
        raise WrongKernel(f"{path} is not of the kernel {image.path}: its functions are elsewhere")
    return path


def _same_kernel(image: Image, other: Image) -> bool:
    """Compare where the functions are that both name; where they share no name, their code."""
    ours, theirs = ({f.name: f.address for f in file.functions} for file in (image, other))
    both = ours.keys() & theirs.keys()
    if both:
        return sum(ours[name] == theirs[name] for name in both) >= _SAME * len(both)
    first = image.code_sections()[0]
    try:
        return other.read(first.address, len(first.data)) == first.data
    except Misuse:
        return False
