"""What a payload is made of: C, object files, archives; combined to one object as linkers do it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch
from kgdbpatch.toolchain.cc import Compiler
from kgdbpatch.toolchain.gnu import complaint, run
from kgdbpatch.toolchain.macho_object import elf_of, is_macho

__all__ = ["Input", "as_input", "combine"]

_ARCHIVES = (b"!<arch>\n", b"!<thin>\n")
_ELF = b"\x7fELF"
_MOST = 64 << 20  # bytes of one file
_TWICE = re.compile(r"^(.*): multiple definition of `(.+?)'; (.*): first defined here", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Input:
    """An object, or an archive of them: the user's ``path`` and the ``file`` that the linker gets."""

    path: Path
    file: Path
    archive: bool = False
    darwin: bool = False  # its functions want their callers' frames as Darwin's do
    source: bytes | None = None  # the C that it was compiled from

    def read(self) -> bytes:
        """Return its bytes."""
        return self.file.read_bytes()

    def kept(self) -> bytes:
        """Return the bytes of an object or archive that is the same as it, if given in its place."""
        return self.path.read_bytes() if self.darwin else self.read()


def as_input(source: str | Path, number: int, directory: Path, compiler: Compiler) -> Input:
    """Return the object of a source: C text, or a file, C or what its first bytes say; or `BadPatch`."""
    if isinstance(source, str):
        made = directory / f"{number}.o"
        compiler.compile(source, made)
        return Input(Path("<c>"), made, source=source.encode("utf-8", "surrogateescape"))
    if not source.is_file():
        raise BadPatch(f"{source}: {'not a file' if source.exists() else 'no such file'}")
    try:
        with source.open("rb") as file:
            head = file.read(8)
            size = file.seek(0, 2)
    except OSError as error:
        raise BadPatch(f"{source}: {(error.strerror or str(error)).lower()}") from error
    if head in _ARCHIVES:
        return Input(source, source.absolute(), archive=True)
    made = directory / f"{number}.o"
    if not head.startswith(_ELF) and not is_macho(head):
        compiler.compile(source, made)
        return Input(source, made, source=source.read_bytes())
    if size > _MOST:
        raise BadPatch(f"{source}: an object file of {size:,} bytes is no payload")
    data = source.read_bytes()
    if is_macho(head):
        data = elf_of(data, source)
    _check(data, source)
    made.write_bytes(data)
    return Input(source, made, darwin=is_macho(head))


def _check(data: bytes, path: Path) -> None:
    """Raise `BadPatch` for what is no object of 32-bit big-endian PowerPC."""
    try:
        file = ELFFile(io.BytesIO(data))
        kind, machine = file["e_type"], file["e_machine"]
        sections = [*file.iter_sections()]
        lto = any(section.name.startswith(".gnu.lto_") for section in sections)
        code = any(s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR and s["sh_size"] for s in sections)
    except (ELFError, ValueError, KeyError, IndexError, OverflowError, MemoryError, AttributeError) as error:
        raise BadPatch(f"{path}: a damaged ELF file: {str(error) or type(error).__name__}") from error
    if machine != "EM_PPC" or file.elfclass != 32 or file.little_endian:
        raise BadPatch(f"{path}: not for 32-bit big-endian PowerPC")
    if kind != "ET_REL":
        raise BadPatch(f"{path}: not an object file but a linked one: give the objects that it was made of")
    if lto and not code:
        raise BadPatch(f"{path}: has no machine code, it was compiled with -flto")


def combine(inputs: Sequence[Input], entry: str | None, directory: Path) -> bytes:
    """Return one object made of all; weak, common and duplicate names as linkers treat them.

    Of archives those members are taken that define what is missing, or ``entry``. Raises `BadPatch` for a
    name that is defined twice, with both places.
    """
    darwin = [one.path for one in inputs if one.darwin]
    if darwin and len(darwin) < len(inputs):
        other = next(one.path for one in inputs if not one.darwin)
        raise BadPatch(f"{darwin[0]} has Darwin's stack frames, {other} has not: they cannot call each other")
    if len(inputs) == 1 and not inputs[0].archive:
        return inputs[0].read()
    made = directory / "combined.o"
    objects = [one.file for one in inputs if not one.archive]
    archives = [one.file for one in inputs if one.archive]
    wanted = ["-u", entry] if entry is not None and archives else []
    group: list[str | Path] = ["--start-group", *archives, "--end-group"] if archives else []
    about = str(inputs[0].path)
    done = run("ld", "-melf32ppc", "-r", *wanted, "-o", made, *objects, *group, about=about)
    if done.returncode or not made.exists():
        said = re.sub(r"(?m)^\S*-ld: (error: )?", "", done.stderr)
        twice = _TWICE.search(said)
        if twice is not None:
            second, name, first = twice.groups()
            if not second or second.startswith("("):  # the line before has the file
                above = re.findall(r"(?m)^(.*): in function ", said[: twice.start()])
                second = above[-1] if above else about
            raise BadPatch(
                f"{_place(second, inputs)}: '{name}' is defined twice: {_place(first, inputs)} has it, too"
            )
        for one in inputs:
            said = said.replace(str(one.file), str(one.path))
        raise complaint(said, about, "ld")
    return made.read_bytes()


def _place(told: str, inputs: Sequence[Input]) -> str:
    """Return a place that ld tells of, ``b.o:/src/b.c:2`` or ``b.o:(.text+0x0)``, as users read it."""
    told = re.sub(r":?\(\.\S+\+0x[0-9a-f]+\)$", "", told)
    for one in inputs:
        if told.startswith(str(one.file)):
            rest = told.removeprefix(str(one.file)).lstrip(":")
            if one.archive or not rest:
                return f"{one.path}{':' if rest and not rest.startswith('(') else ''}{rest}"
            return rest
    return told
