"""What a user asks for: one frozen request, checked once, from the command line down to the planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.patch.override import Override

__all__ = ["Asked", "PatchRequest"]


Sources = str | Path | Sequence[str | Path]


class Asked(TypedDict, total=False):
    """The fields of `PatchRequest`, by name."""

    asm: str | Path | None
    c: Sources | None
    call: str | int | None
    entry: str | None
    count: bool
    via: str
    force: bool
    writes: str | None
    override: Override | int | None
    replace: bool
    include: Sequence[str | Path]
    define: Sequence[str]
    compiler: str | None
    kbuild: str | Path | None
    exit: bool
    origin: str | None
    uncounted: bool
    link: bool
    sited: bool


_INPUTS = (".c", ".o", ".a", ".ko")
_VIAS = ("auto", "trap", "tails")


@dataclass(frozen=True, slots=True)
class PatchRequest:
    """Code to be put at a site, and how; raises `Misuse` for what does not go together.

    ``asm`` and ``c`` are source text, or the `pathlib.Path` of a file (so is a word that ends like its name).
    ``c`` may be several of C, object files and archives, of which the first has the entry function.
    ``call`` is a kernel function, by name or address, ``entry`` which function of ``c`` is called. ``count``:
    the patch counts its hits (calls always do). ``via`` is how the site leads to the code: ``auto``, ``trap``
    or ``tails``. ``force`` lifts the rules that may be lifted (`kgdbpatch.patch.site.FORCEABLE`). ``writes``
    names the registers that ``c`` changes for the kernel. ``override`` is what the function returns at once,
    a number or an `Override`.
    ``replace``: the function of ``c`` takes the place of the site's, or of
    the one called at the site; ``asm`` runs instead of the site's instruction.
    C is compiled by ``compiler`` (``gcc``, ``clang``), with the directories ``include`` and the macros
    ``define``; or as the kernel's build tree ``kbuild`` compiles its own.
    ``exit``: what runs, or counts, does so where the site's function returns. ``origin``: the file that
    ``c`` is to be listed and named by, if it is not the first one. ``uncounted``: ``c`` that calls
    nothing of the kernel's is not counted. ``link``: its eighth parameter is what LR is at the site;
    ``sited``: its seventh is the site's address.

    >>> PatchRequest(asm="nop", count=True).via
    'auto'
    """

    asm: str | Path | None = None
    c: Sources | None = None
    call: str | int | None = None
    entry: str | None = None
    count: bool = False
    via: str = "auto"
    force: bool = False
    writes: str | None = None
    override: Override | int | None = None
    replace: bool = False
    include: Sequence[str | Path] = ()
    define: Sequence[str] = ()
    compiler: str | None = None
    kbuild: str | Path | None = None
    exit: bool = False
    origin: str | None = None
    uncounted: bool = False
    link: bool = False
    sited: bool = False

    def __post_init__(self) -> None:
        given = sum(what is not None for what in (self.asm, self.c, self.call, self.override))
        if given > 1 or not (given or self.count):
            raise Misuse("give exactly one of asm, c, call, override, or just count")
        if self.entry is not None and self.c is None:
            raise Misuse("entry goes with c: it names a function of the C file")
        if self.writes is not None and self.c is None:
            raise Misuse("writes goes with c: it names the registers that the C function changes")
        if self.override is not None:
            self._override()
        if self.replace and ((self.c is None and self.asm is None) or self.writes is not None):
            raise Misuse("replace goes with c or asm")
        if self.exit and (self.replace or (self.c is None and given)):
            raise Misuse("exit goes with c, or with count alone")
        for name in ("include", "define", "compiler", "kbuild"):
            if getattr(self, name) and self.c is None:
                raise Misuse(f"{name} goes with c: it says how that is compiled")
        if self.compiler is not None and self.kbuild is not None:
            raise Misuse("compiler does not go with kbuild: a build tree has its own")
        if self.c is not None and not isinstance(self.c, (str, Path)) and not self.c:
            raise Misuse("c names no file")
        if self.via not in _VIAS:
            raise Misuse(f"'{self.via}' is no way to a patch; there are {', '.join(_VIAS)}")

    def _override(self) -> Override:
        given = self.override
        assert given is not None
        return (Override(given) if isinstance(given, int) else given).checked()

    def assembler(self) -> tuple[str, str]:
        """Return the assembler text and its file's name; raise `BadPatch` when that cannot be read."""
        assert self.asm is not None
        path = _path(self.asm, (".s", ".S"))
        if path is None:
            return str(self.asm), "<asm>"
        try:
            return path.read_text("utf-8", "surrogateescape"), str(path)
        except OSError as error:
            raise BadPatch(f"{path}: {error.strerror}") from error

    def c_sources(self) -> list[str | Path]:
        """Return the C texts, and the paths of files."""
        if self.override is not None:
            return [self._override().source()]
        assert self.c is not None
        given = [self.c] if isinstance(self.c, (str, Path)) else self.c
        return [str(one) if (path := _path(one, _INPUTS)) is None else path for one in given]


def _path(given: str | Path, suffixes: tuple[str, ...]) -> Path | None:
    """Return the path that is meant, or None for text."""
    if isinstance(given, Path):
        return given
    return Path(given) if given.endswith(suffixes) and len(given.split()) == 1 else None
