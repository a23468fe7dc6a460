"""What a user asks for: one frozen request, checked once, from the command line down to the planner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.patch.override import Override

__all__ = ["Asked", "PatchRequest"]


class Asked(TypedDict, total=False):
    """The fields of `PatchRequest`, by name."""

    asm: str | Path | None
    c: str | Path | None
    call: str | int | None
    entry: str | None
    count: bool
    via: str
    force: bool
    writes: str | None
    override: Override | int | None
    replace: bool


_VIAS = ("auto", "trap", "tails")


@dataclass(frozen=True, slots=True)
class PatchRequest:
    """Code to be put at a site, and how; raises `Misuse` for what does not go together.

    ``asm`` and ``c`` are source text, or the `pathlib.Path` of a file (so is a word that ends like its name).
    ``call`` is a kernel function, by name or address, ``entry`` which function of ``c`` is called. ``count``:
    the patch counts its hits (calls always do). ``via`` is how the site leads to the code: ``auto``, ``trap``
    or ``tails``. ``force`` lifts the rules that may be lifted (`kgdbpatch.patch.site.FORCEABLE`). ``writes``
    names the registers that ``c`` changes for the kernel. ``override`` is what the function returns at once,
    a number or an `Override`.
    ``replace``: the function of ``c`` takes the place of the site's, or of
    the one called at the site; ``asm`` runs instead of the site's instruction.

    >>> PatchRequest(asm="nop", count=True).via
    'auto'
    """

    asm: str | Path | None = None
    c: str | Path | None = None
    call: str | int | None = None
    entry: str | None = None
    count: bool = False
    via: str = "auto"
    force: bool = False
    writes: str | None = None
    override: Override | int | None = None
    replace: bool = False

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

    def c_source(self) -> str | Path:
        """Return the C text, or the path of its file."""
        if self.override is not None:
            return self._override().source()
        assert self.c is not None
        path = _path(self.c, (".c",))
        return str(self.c) if path is None else path


def _path(given: str | Path, suffixes: tuple[str, ...]) -> Path | None:
    """Return the path that is meant, or None for text."""
    if isinstance(given, Path):
        return given
    return Path(given) if given.endswith(suffixes) and len(given.split()) == 1 else None
