"""What Kbuild noted of a tree's objects: the command of each, and the files that it was made from."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from kgdbpatch.errors import BadPatch, Misuse

__all__ = ["Tree", "Unit"]

_COMMAND = re.compile(r"^(?:saved)?cmd_(\S+) := (.*)$", re.MULTILINE)
_SOURCE = re.compile(r"^source_\S+ := (\S+)$", re.MULTILINE)
_DEPENDENCIES = re.compile(r"^deps_\S+ := (.*?)^$", re.MULTILINE | re.DOTALL)
_WILDCARD = re.compile(r"\$\(wildcard [^)]*\)")
_USUAL = ("kernel/fork.c", "kernel/exit.c", "init/main.c")


@dataclass(frozen=True)
class Unit:
    """An object of a tree: its source, the compiler's words, all files that it was made from.

    Paths are as Kbuild has them: relative to the tree, or absolute.
    """

    object: str
    source: str
    words: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def module(self) -> str:
        """Return the module that it is part of, "" where it is of the kernel itself."""
        if "-DMODULE" not in self.words:
            return ""
        file = next((w for w in self.words if w.startswith("-DKBUILD_MODFILE=")), "")
        return file.partition("=")[2].strip("\"'").rpartition("/")[2].replace("-", "_")


class Tree:
    """A kernel's tree that Kbuild has built, with objects and what is noted beside them."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        if not path.is_dir():
            raise Misuse(f"{path}: no directory of a kernel's source")

    def unit(self, source: str) -> Unit:
        """Return the object that is made from a source; `Misuse` where it is not built."""
        place = Path(source)
        note = self.path / place.parent / f".{place.stem}.o.cmd"
        if not note.is_file():
            what = "make vmlinux" if self.built() else "configure it and run make vmlinux"
            raise Misuse(f"{self.path}: {source} is not built, there is no {note.name} beside it: {what}")
        return _read(note)

    def usual(self) -> Unit:
        """Return an object of the kernel itself, compiled as most are; `Misuse` where none is built."""
        for source in _USUAL:
            note = self.path / Path(source).parent / f".{Path(source).stem}.o.cmd"
            if note.is_file():
                return _read(note)
        return self.unit(_USUAL[0])

    def built(self) -> bool:
        """Tell whether anything was built in the tree."""
        return any((self.path / part).exists() for part in ("vmlinux", "include/generated/autoconf.h"))

    def dependents(self, headers: Collection[str]) -> Iterator[Unit]:
        """Yield the objects of C sources that were made from any of some headers, by their names' order."""
        needles = [header.encode() for header in headers]
        found = []
        for folder, below, files in os.walk(self.path):
            below.sort()
            for name in files:
                if name.endswith(".o.cmd") and name.startswith("."):
                    note = Path(folder, name)
                    text = note.read_bytes()
                    if any(needle in text for needle in needles):
                        found.append(note)
        for note in sorted(found):
            unit = _read(note)
            read = {os.path.normpath(file) for file in unit.files}
            kernel = unit.source.endswith(".c") and "-D__KERNEL__" in unit.words
            if kernel and not read.isdisjoint(headers):
                yield unit

    def release(self) -> str:
        """Return the kernel's release, as `uname -r` says it, or ""."""
        note = self.path / "include/config/kernel.release"
        return note.read_text(errors="replace").strip() if note.is_file() else ""


def _read(note: Path) -> Unit:
    text = note.read_text(errors="surrogateescape")
    command, source = _COMMAND.search(text), _SOURCE.search(text)
    if command is None or source is None:
        raise BadPatch(f"{note}: no command of Kbuild's in it")
    try:
        words = shlex.split(command[2].split(" ; ")[0].replace("$(pound)", "#").replace("$$", "$"))
    except ValueError as error:
        raise BadPatch(f"{note}: {error}") from error
    noted = _DEPENDENCIES.search(text)
    files = _WILDCARD.sub("", noted[1]).replace("\\\n", " ").split() if noted else []
    return Unit(command[1], source[1], tuple(words), (source[1], *files))
