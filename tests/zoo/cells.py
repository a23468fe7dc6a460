"""The matrix: which kernel, on which board, booted here or found running, with its symbols or without."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import lief
from guest.by_hand import started

from kgdbpatch.guests import Recipe
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.attaching import attach, detach

__all__ = ["BOARDS", "CELLS", "Cell", "Guest", "running"]

_HIDING = re.compile(r"(?:max)?mem=\S+\s*")  # what leaves RAM that the kernel is not told of
BOARDS = (
    ("linux", "g3beige", "750", 1),
    ("linux", "mac99", "7400", 1),
    ("linux-6.12-pmac", "g3beige", "750", 1),
    ("linux-6.12-pmac", "mac99", "7400", 1),
    ("linux-e500", "ppce500", "e500v2", 1),
    ("linux-e500-smp", "ppce500", "e500v2", 2),
    ("linux-440", "bamboo", "440epb", 1),
    ("darwin", "g3beige", "750", 1),
)


@dataclass(frozen=True)
class Cell:
    """One kind of guest.

    ``way`` is ``booted``, ``attached`` (started by hand, with a GDB server and a file for the console; no RAM
    is hidden from a Linux, which can lend some), or ``stripped`` (booted, its kernel's file without symbols).
    """

    guest: str
    machine: str
    cpu: str
    smp: int
    way: str = "booted"

    @property
    def board(self) -> tuple[str, str, str, int]:
        """The kernel and what it runs on: one of `BOARDS`."""
        return self.guest, self.machine, self.cpu, self.smp

    def __str__(self) -> str:
        cpus = f"-smp{self.smp}" if self.smp > 1 else ""
        return f"{self.guest},{self.machine}-{self.cpu}{cpus},{self.way}"

    @cached_property
    def recipe(self) -> Recipe:
        """What is booted; raises `Misuse` where there is no such guest or board yet."""
        smp = self.smp if self.smp > 1 else None
        return ordered(self.guest, BootOptions(machine=self.machine, cpu=self.cpu, smp=smp))


CELLS = [Cell(*board, way) for board in BOARDS for way in ("booted", "attached", "stripped")]


@dataclass(frozen=True)
class Guest:
    """A running guest of a cell; ``names`` is its kernel's file with all symbols: what a site is called."""

    cell: Cell
    kernel: Kernel
    names: Image

    def address(self, name: str) -> int:
        """Return where a function is, by the file that has symbols."""
        return self.names.resolve(name)

    def text(self) -> list[int]:
        """Return the first instructions of the functions of the kernel's main code."""
        functions = self.names.functions
        return [f.address for f in functions if f.section in (".text", "__TEXT,__text")]


@contextmanager
def running(cell: Cell) -> Iterator[Guest]:
    """Give a guest of a cell with the kernel component in it; end it afterwards."""
    path = cell.recipe.build(lambda _: None)
    name = re.sub(r"[^a-z0-9]+", "-", f"zoo-{cell}")
    place = Path(tempfile.mkdtemp(prefix="zoo-"))
    try:
        with (_attached if cell.way == "attached" else _booted)(cell, path, name, place) as kernel:
            yield Guest(cell, kernel, Image.load(path))
    finally:
        shutil.rmtree(place)


@contextmanager
def _booted(cell: Cell, path: Path, name: str, place: Path) -> Iterator[Kernel]:
    file = _stripped(path, place / "stripped") if cell.way == "stripped" else path
    with Kernel.boot(cell.recipe, name, kernel=file) as kernel:
        yield kernel


@contextmanager
def _attached(cell: Cell, path: Path, name: str, place: Path) -> Iterator[Kernel]:
    line = cell.recipe.boot.command_line
    if cell.recipe.personality.name == "linux":
        line = _HIDING.sub("", line)
    whole = replace(cell.recipe, boot=replace(cell.recipe.boot, command_line=line))
    with started(whole) as guest:
        attach(name, guest.gdb, path, console=guest.console).close()
        try:
            with Kernel.attach(name) as kernel:
                yield kernel
        finally:
            done = detach(name)
        assert done.restored, done.reason
        assert guest.runs()


def _stripped(path: Path, stripped: Path) -> Path:
    """Write a kernel's file without its symbols."""
    if Image.load(path).format == "elf":
        subprocess.run(["powerpc-linux-gnu-strip", "-s", path, "-o", stripped], check=True)
        return stripped
    parsed = lief.MachO.parse(path)
    kernel = parsed.at(0) if parsed else None
    assert kernel is not None
    kernel.remove(lief.MachO.LoadCommand.TYPE.SYMTAB)
    kernel.write(str(stripped))
    return stripped
