"""Compile payloads written in C for the registers r3..r10 of a site; neither FP nor AltiVec may come out."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch
from kgdbpatch.toolchain.gnu import complaint, run
from kgdbpatch.toolchain.link import Linked, link
from kgdbpatch.toolchain.objects import called, is_indirect, names
from kgdbpatch.toolchain.payload_notes import PayloadNotes, payload_notes
from kgdbpatch.toolchain.support import FLAGS, TARGET, header_options, target_options

__all__ = ["CObject", "Linked", "compile_c", "link"]

_NOTHING = PayloadNotes()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CObject:
    """A compiled, unlinked C payload: its entry function, the names it needs, calls (``called``), exports."""

    path: Path
    data: bytes
    entry: str
    functions: tuple[str, ...]
    needed: tuple[str, ...]
    called: frozenset[str]
    weak: frozenset[str] = frozenset()
    exported: tuple[tuple[str, str], ...] = ()  # (name, "function" or "variable")
    indirect: bool = True  # it branches through CTR or LR, otherwise than to return
    target: str = TARGET  # the CPU that it is for
    notes: PayloadNotes = _NOTHING


def compile_c(
    source: str | Path,
    *,
    entry: str | None = None,
    include_dirs: Sequence[Path] = (),
    target: str = TARGET,
    defines: Sequence[str] = (),
) -> CObject:
    """Compile C, text or a file; raise `BadPatch` with the compiler's message or about the entry function.

    That is ``entry``, else the one named like the file, else the only global one. ``target``: ``-mcpu=``.
    ``defines``: macros, ``NAME`` or ``NAME=VALUE``.
    """
    text = source if isinstance(source, str) else None
    path = Path("<c>") if isinstance(source, str) else source
    if text is None and not path.is_file():
        raise BadPatch(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory, header_options() as headers:
        made = Path(directory) / "payload.o"
        done = run(
            "gcc",
            *FLAGS,
            *target_options(target),
            *headers,
            *("-c", "-x", "c", "-o", str(made)),
            *(f"-I{include}" for include in include_dirs),
            *(f"-D{define}" for define in defines),
            "-g",
            path if text is None else "-",
            about=str(path),
            text=text,
        )
        if done.returncode or not made.exists():
            raise complaint(done.stderr, str(path), "gcc")
        for line in done.stderr.splitlines():
            _log.warning("%s", line)
        data = made.read_bytes()
    file = ELFFile(io.BytesIO(data))
    found = sorted(names(file), key=lambda name: name.name)
    functions = tuple(name.name for name in found if name.function)
    needed = tuple(name.name for name in found if not name.defined)
    exported = [name for name in found if name.defined and name.exported]
    chosen = _entry(path, entry, functions, tuple(name.name for name in exported if name.function))
    return CObject(
        path=path,
        data=data,
        entry=chosen,
        functions=functions,
        needed=needed,
        called=called(file) & frozenset(needed),
        weak=frozenset(name.name for name in found if name.weak and not name.defined),
        exported=tuple((name.name, "function" if name.function else "variable") for name in exported),
        indirect=is_indirect(file),
        target=target,
        notes=payload_notes(data, chosen, str(path)),
    )


def _entry(path: Path, wanted: str | None, functions: tuple[str, ...], exported: tuple[str, ...]) -> str:
    listed = ", ".join(functions) or "none"
    if wanted is not None:
        if wanted not in functions:
            raise BadPatch(f"{path}: no function '{wanted}'; there are: {listed}")
        return wanted
    if path.stem in functions:
        return path.stem
    if len(exported) == 1:
        return exported[0]
    if not exported:
        raise BadPatch(f"{path}: no function to call; make one global (not static)")
    raise BadPatch(f"{path}: which function is the entry? name it with --entry: {', '.join(exported)}")
