"""Compile a tree's object twice at the same time: as it is, and with a patch."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kgdbpatch.errors import BadPatch
from kgdbpatch.toolchain.gnu import ToolMissing, complaint
from kgdbpatch.updates.kbuild import Tree, Unit

__all__ = ["Pair", "pairs"]

_DEADLINE = 600  # seconds for one file
# -fno-common: a new variable is data of the object's, whatever the tree makes of those that it has
_SECTIONS = ("-ffunction-sections", "-fdata-sections", "-fno-section-anchors", "-fno-common")
_TYPES = "-gbtf"  # since GCC 12: types without lines, so that equal ones are equal bytes


@dataclass(frozen=True)
class Pair:
    """The two objects of a unit: as the tree's source is, and with the patch."""

    unit: Unit
    before: bytes
    after: bytes


class _Compilation:
    """A compiler at work."""

    def __init__(self, unit: Unit, directory: Path, tree: Path, result: Path, types: bool) -> None:
        self.unit, self.result = unit, result
        words = _words(unit, tree, directory, result, types)
        compiler = shutil.which(words[0], path=os.environ.get("PATH"))
        if compiler is None:
            raise ToolMissing(words[0])
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [compiler, *words[1:]],
            cwd=directory,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was said."""
        ended = os.pidfd_open(self._process.pid)  # `wait` with a time looks every 50 ms
        try:
            if not select.select([ended], [], [], _DEADLINE)[0]:
                raise BadPatch(f"{self.unit.source}: the compiler did not end in {_DEADLINE} s")
        finally:
            os.close(ended)
        code = self._process.wait()
        self._said.seek(0)
        return code, self._said.read().decode("utf-8", "replace")

    def close(self) -> None:
        """End it, where it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.close()


def pairs(units: Sequence[Unit], tree: Tree, patched: Path, scratch: Path) -> Iterable[Pair]:
    """Yield the objects of units, without (from ``tree``) and with the patch (from ``patched``).

    Both compilations of a unit run at the same time. `BadPatch` quotes the compiler.
    """
    types = True
    for number, unit in enumerate(units):
        made = _both(unit, tree, patched, scratch, number, types)
        if made is None:  # a compiler that does not know this form of types
            types = False
            made = _both(unit, tree, patched, scratch, number, types)
        assert made is not None  # without types it ends or raises
        yield made


def _both(unit: Unit, tree: Tree, patched: Path, scratch: Path, number: int, types: bool) -> Pair | None:
    results = [scratch / f"{number}-{side}.o" for side in ("before", "after")]
    running: list[_Compilation] = []
    try:
        for directory, result in zip((patched, tree.path), reversed(results), strict=True):
            running.append(_Compilation(unit, directory, tree.path, result, types))
        for one, whose in zip(running, ("", " without the patch"), strict=True):
            code, said = one.end()
            if code and types and _TYPES in said:
                return None
            if code:
                raise complaint(said, f"{unit.source}{whose}", "the compiler")
    finally:
        for one in running:
            one.close()
    _check_read(unit, tree, patched, results[1])
    return Pair(unit, *(result.read_bytes() for result in results))


def _words(unit: Unit, tree: Path, directory: Path, result: Path, types: bool) -> list[str]:
    """Return the compiler's words of a unit, run in ``directory`` in place of ``tree``."""
    words, given = [], iter(unit.words)
    for word in given:
        if word.startswith(("-Wp,-MMD,", "-Wp,-MD,")):
            words.append(f"-Wp,-MMD,{result}.d")
        elif word == "-o":
            next(given)
        elif not word.startswith("-g"):  # debugging information makes no code
            words.append(word.replace(f"{tree}/", f"{directory}/"))
    if types:
        words.append(_TYPES)
    return [*words, *_SECTIONS, f"-fmacro-prefix-map={directory}/={tree}/", "-o", str(result)]


def _check_read(unit: Unit, tree: Tree, patched: Path, result: Path) -> None:
    """Make sure that with the patch no file was read that the patch changes, but from the patched view."""
    note = Path(f"{result}.d")
    if not note.is_file():
        return
    changed = {os.path.realpath(tree.path / name) for name in _regular_files(patched)}
    for name in note.read_text(errors="surrogateescape").replace("\\\n", " ").split()[1:]:
        if os.path.realpath(patched / name) in changed:
            raise BadPatch(f"{unit.source}: the compiler reads {name} past the patch")


def _regular_files(place: Path) -> Iterable[str]:
    for folder, _, files in os.walk(place):
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                yield os.path.relpath(path, place)
