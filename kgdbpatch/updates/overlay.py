"""A view of a tree in which some files are patched: links to the tree, but for those files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from kgdbpatch.errors import BadPatch, MissingTool
from kgdbpatch.updates.source_patch import SourcePatch

__all__ = ["overlay"]

_DEADLINE = 60  # seconds
_FAILED = re.compile(r"FAILED|malformed|can't find|garbage|[Rr]eversed|missing")


def overlay(tree: Path, patch: SourcePatch, files: Iterable[str], place: Path) -> None:
    """Make in ``place`` a view of ``tree`` with the patch; ``files`` are read there under these names.

    The tree is not written to. Directories that lead to a patched file, or that a name with ``..`` goes
    through, are real ones with a link for each entry; all else is reached through links.
    """
    touched = [file.name for file in patch.files]
    folders = {parent for name in touched for parent in _parents(name)}
    folders |= {parent for name in set(files) if ".." in name for parent in _parents(name)}
    _link(tree, place, "", folders)
    for name in touched:
        copy = place / name
        copy.unlink()
        shutil.copyfile(tree / name, copy)
    _apply(patch, place)


_MADE = (".o", ".a", ".cmd", ".d", ".ko")  # what no compiler reads


def _parents(name: str) -> list[str]:
    """Return the directories that a name goes through, in the tree."""
    found, at = [], ""
    for part in name.split("/")[:-1]:
        at = os.path.normpath(os.path.join(at, part))
        if at != "." and not at.startswith(".."):
            found.append(at)
    return found


def _link(tree: Path, place: Path, below: str, folders: set[str]) -> None:
    os.makedirs(place / below, exist_ok=True)
    for entry in os.scandir(tree / below):
        name = f"{below}/{entry.name}" if below else entry.name
        if name in folders and entry.is_dir():
            _link(tree, place, name, folders)
        elif not name.endswith(_MADE):
            os.symlink(tree / name, place / name)


def _apply(patch: SourcePatch, place: Path) -> None:
    program = shutil.which("patch")
    if program is None:
        raise MissingTool("patch is not installed (Debian package patch)")
    words = [
        program,
        f"-p{patch.strip}",
        "--batch",
        "--forward",
        "--no-backup-if-mismatch",
        "--reject-file=-",
    ]
    try:
        done = subprocess.run(
            [*words, f"--input={patch.path.absolute()}"],
            cwd=place,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadPatch(f"{patch.path}: patch did not end in {_DEADLINE} s") from error
    if done.returncode:
        raise _complaint(
            patch, done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
        )


def _complaint(patch: SourcePatch, said: str) -> BadPatch:
    lines = [line for line in said.splitlines() if line.strip()]
    file, told = patch.files[0].name, "patch failed without a word"
    for line in lines:
        if match := re.match(r"(?:checking|patching) file '?(.*?)'?$", line):
            file = match[1]
        elif _FAILED.search(line):
            told = line.rstrip(".")
            break
    number = re.search(r"FAILED at (\d+)", told)
    error = BadPatch(f"{file}:{number[1] if number else 1}: {patch.path.name} does not apply: {told}")
    for line in lines[:20]:
        error.add_note(line)
    return error
