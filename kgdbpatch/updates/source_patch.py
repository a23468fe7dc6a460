"""Read a source patch: which files it touches, and which line stands where with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchSet

from kgdbpatch.errors import BadPatch

__all__ = ["SourcePatch", "Touched"]

_NOTHING = "/dev/null"
_MOST = 16 << 20  # bytes of a patch


@dataclass(frozen=True)
class Touched:
    """A file that a patch touches: its name in the tree, and per hunk its old and new lines."""

    name: str
    hunks: tuple[tuple[int, int, int, int], ...]  # old start, old length, new start, new length
    kept: frozenset[tuple[int, int]]  # within hunks: old and new number of lines that stay

    def line_with(self, line: int) -> int | None:
        """Return the number that a line of the file has with the patch; None where it is taken out."""
        moved = 0
        for old, length, new, now in self.hunks:
            if line < old + (length == 0):
                break
            if line < old + length:
                return next((after for before, after in self.kept if before == line), None)
            moved = (new + now) - (old + length)
        return line + moved


@dataclass(frozen=True)
class SourcePatch:
    """A unified diff of a kernel's source."""

    path: Path
    description: str
    strip: int  # parts of each name that are not the tree's, as `patch -p` has it
    files: tuple[Touched, ...]

    @classmethod
    def read(cls, path: Path, tree: Path) -> SourcePatch:
        """Read a patch to a tree; `BadPatch` where it is none, or adds, removes or renames files."""
        try:
            with path.open("rb") as file:
                raw = file.read(_MOST + 1)
        except OSError as error:
            raise BadPatch(f"{path}: {error.strerror}") from error
        if len(raw) > _MOST:
            raise BadPatch(f"{path}: more than {_MOST >> 20} MiB")
        text = raw.decode("utf-8", "surrogateescape")
        try:
            parts: Any = PatchSet(text.splitlines(keepends=True))
        except UnidiffParseError as error:
            raise BadPatch(f"{path}: {error}") from error
        if not parts:
            raise BadPatch(f"{path}: no unified diff ('diff -u', 'git diff') of any file in it")
        for part in parts:
            if _NOTHING in (part.source_file, part.target_file) or part.is_rename or part.is_binary_file:
                raise BadPatch(
                    f"{path}: {part.path} is added, removed, renamed or binary, which no update can do"
                )
        names = [part.target_file.split("\t")[0] for part in parts]
        strip = _strip(names, tree, path)
        files = tuple(_touched(name, strip, part) for name, part in zip(names, parts, strict=True))
        return cls(path, _description(text), strip, files)


def _strip(names: list[str], tree: Path, path: Path) -> int:
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BadPatch(f"{path}: {name} is no file of the tree")
    for strip in (1, 0, 2):
        if all((tree / _less(name, strip)).is_file() for name in names):
            return strip
    lost = next(name for name in names if not (tree / _less(name, 1)).is_file())
    raise BadPatch(f"{path}: {_less(lost, 1)} is not in {tree}")


def _less(name: str, strip: int) -> str:
    return "/".join(name.split("/")[strip:])


def _touched(name: str, strip: int, part: Any) -> Touched:
    hunks = tuple((h.source_start, h.source_length, h.target_start, h.target_length) for h in part)
    kept = frozenset(
        (line.source_line_no, line.target_line_no) for h in part for line in h if line.is_context
    )
    return Touched(_less(name, strip), hunks, kept)


def _description(text: str) -> str:
    """Return what a patch says of itself before its first file: the subject of a mail, or the first line."""
    head = re.split(r"^(?:---|diff |Index: )", text, maxsplit=1, flags=re.MULTILINE)[0]
    subject = re.search(r"^Subject:\s*(?:\[[^]]*\]\s*)?(.+)$", head, re.MULTILINE)
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    found = subject[1] if subject else lines[0] if lines else ""
    return found.encode("utf-8", "replace").decode()[:200]
