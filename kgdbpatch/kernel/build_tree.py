"""Payloads compiled as a kernel's build tree compiles its own code: with its flags and headers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage, WrongKernel
from kgdbpatch.toolchain.compile import CObject, TreeCompiler
from kgdbpatch.types import KernelTypes
from kgdbpatch.types.model import Record
from kgdbpatch.types.objects import otherwise, records_in
from kgdbpatch.updates.kbuild import Tree

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["BuildTree"]

# of one file, for tracers and checkers of the kernel, or for a place that payloads do not have
_DROPPED = (
    *("-Wp,-M", "-DKBUILD_", "-D__KBUILD_", "-DCC_USING_", "-DMODULE", "-pg", "-g", "-flto"),
    *("-mrecord-mcount", "-mprofile-kernel", "-fpatchable-function-entry", "-fstack-protector"),
    *("-mstack-protector-guard", "-fsanitize", "-fplugin", "-fprofile", "-ftest-coverage", "--coverage"),
)
_OWN = (
    *("-fno-stack-protector", "-fno-pic", "-fno-pie", "-fno-common", "-fno-asynchronous-unwind-tables"),
    *("-fno-function-sections", "-fno-data-sections", "-fdiagnostics-color=never", "-Wno-missing-prototypes"),
)
_NAME = "payload"


class BuildTree:
    """A kernel's build tree, for payloads that are put into the kernel ``image``."""

    def __init__(self, path: Path, image: Image) -> None:
        tree = Tree(path)
        unit = tree.usual()
        self._image, self._path = image, path
        words = [*_kept(unit.words, unit.source), *_OWN]
        for name in ("MODFILE", "BASENAME", "MODNAME"):
            words.append(f'-DKBUILD_{name}="{_NAME}"')
        self.compiler = TreeCompiler((*words, f"-D__KBUILD_MODNAME=kmod_{_NAME}"), tree.path)

    def check(self, compiled: CObject) -> None:
        """Raise `WrongKernel` where a structure of the payload is laid out otherwise than the kernel's."""
        try:
            types = KernelTypes.of(self._image)
        except BadImage:  # nothing to compare with
            return
        known = types.index
        for mine in records_in(compiled.home):
            name = f"{mine.kind} {mine.tag}"
            theirs = types.find(name) if mine.tag in known[mine.kind] else None
            why = otherwise(mine, theirs) if isinstance(theirs, Record) else ""
            if why:
                ours = self._image.path.name
                raise WrongKernel(f"{self._path} is not the tree of {ours}: {name} {why}; configure it alike")


def _kept(words: Sequence[str], source: str) -> Iterator[str]:
    """Yield the words of a tree's command that hold for other files, too."""
    given = iter(words)
    for word in given:
        if word == "-o":
            next(given, None)
        elif word not in ("-c", source) and not word.startswith(_DROPPED):
            yield word
