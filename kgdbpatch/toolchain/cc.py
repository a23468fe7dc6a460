"""Call a C compiler for payloads: GCC, clang, or as a kernel's build tree calls its own."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.toolchain.gnu import ToolMissing, complaint, find, run_words
from kgdbpatch.toolchain.support import FLAGS, TARGET, header_options, target_options

__all__ = ["COMPILERS", "TYPES_HEADER", "Compiler", "TreeCompiler"]

COMPILERS = ("gcc", "clang")
TYPES_HEADER = "kgdbpatch/types.h"  # made for the kernel, with what the source names

_CLANG = ("--target=powerpc-linux-gnu", "-fno-caret-diagnostics", "-fno-addrsig", "-gdwarf-4")
_GCC_ONLY = frozenset(
    ("-msdata=none", "-G0", "-mno-relocatable", "-fno-reorder-functions", "-fno-diagnostics-show-caret")
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TreeCompiler:
    """How the objects of a build tree are compiled: the words, the compiler first, run in ``directory``."""

    words: tuple[str, ...]
    directory: Path


@dataclass(frozen=True, slots=True)
class Compiler:
    """A way to compile payloads: ``name`` of `COMPILERS`, or the ``tree``'s own compiler and flags.

    ``target``: ``-mcpu=``. ``defines``: macros, ``NAME`` or ``NAME=VALUE``. ``types`` makes `TYPES_HEADER` of
    a preprocessed source that includes it.
    """

    name: str = "gcc"
    target: str = TARGET
    include_dirs: Sequence[Path] = ()
    defines: Sequence[str] = ()
    tree: TreeCompiler | None = None
    types: Callable[[str], str] | None = None

    def compile(self, source: str | Path, made: Path) -> None:
        """Make an object of C, text or a file; raise `BadPatch` with the compiler's message."""
        about = str(_path(source))
        with ExitStack() as held:
            words = self._words(held)
            text = source if isinstance(source, str) else _read(source)
            if TYPES_HEADER in text:
                words.append(f"-I{held.enter_context(self._types(words, source))}")
            said = self._run([*words, "-g", "-c", "-o", str(made)], source, made)
        for line in said.splitlines():
            _log.warning("%s", line)
        if not made.exists():
            raise BadPatch(f"{about}: {self._called} made no object")

    @property
    def _called(self) -> str:
        return self.name if self.tree is None else Path(self.tree.words[0]).name

    def _words(self, held: ExitStack) -> list[str]:
        """Return the compiler's path and words, less what is to be made of what."""
        if self.tree is not None:
            program = shutil.which(self.tree.words[0])
            if program is None:
                raise ToolMissing(self.tree.words[0])
            ours = held.enter_context(header_options())[0]
            flags = [program, *self.tree.words[1:], ours]
        elif self.name == "clang":
            program = shutil.which("clang")
            if program is None:
                raise ToolMissing("clang")
            ours, *_, after, last = held.enter_context(header_options())
            own = [flag for flag in FLAGS if flag not in _GCC_ONLY]
            flags = [program, *_CLANG, *own, *target_options(self.target), ours]
            flags += ["-isystem", f"{_resources(program)}/include", after, last]
        elif self.name == "gcc":
            flags = [find("gcc"), *FLAGS, *target_options(self.target)]
            flags += map(str, held.enter_context(header_options()))
        else:
            raise Misuse(f"'{self.name}' is no compiler that is known: {', '.join(COMPILERS)}")
        given = [f"-I{directory.absolute()}" for directory in self.include_dirs]
        return [*flags, *given, *(f"-D{define}" for define in self.defines)]

    def _run(self, words: list[str], source: str | Path, made: Path | None) -> str:
        """Run the compiler on a source; return what it says, or its output where nothing is ``made``."""
        path = _path(source)
        text = source if isinstance(source, str) else None
        directory = None if self.tree is None else self.tree.directory
        file = "-" if text is not None else str(path if directory is None else path.absolute())
        done = run_words([*words, "-x", "c", file], about=str(path), text=text, directory=directory)
        if done.returncode:
            raise complaint(done.stderr, str(path), self._called)
        return done.stderr if made is not None else done.stdout

    def _types(self, words: list[str], source: str | Path) -> tempfile.TemporaryDirectory[str]:
        """Return a directory with `TYPES_HEADER` made for a source."""
        if self.tree is not None:
            raise BadPatch(
                f"{_path(source)}: {TYPES_HEADER} is not for a build tree: include its own headers"
            )
        if self.types is None:
            raise BadPatch(f"{_path(source)}: {TYPES_HEADER} is made for a kernel, and none is known here")
        directory = tempfile.TemporaryDirectory(prefix="kgdbpatch-")
        header = Path(directory.name, TYPES_HEADER)
        header.parent.mkdir()
        try:
            header.touch()
            header.write_text(
                self.types(self._run([*words, f"-I{directory.name}", "-E", "-P"], source, None))
            )
        except BaseException:
            directory.cleanup()
            raise
        return directory


def _path(source: str | Path) -> Path:
    return Path("<c>") if isinstance(source, str) else source


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError as error:
        raise BadPatch(f"{path}: {(error.strerror or str(error)).lower()}") from error


@cache
def _resources(clang: str) -> str:
    """Return the directory of clang's own headers."""
    return run_words([clang, "-print-resource-dir"], about="clang").stdout.strip()
