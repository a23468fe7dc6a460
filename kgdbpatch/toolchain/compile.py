"""Compile payloads written in C and link them against the kernel that runs.

The function gets the registers r3..r10 as they are at the site, so at a function's entry its
parameters are that function's own arguments. Kernel code runs with floating point off: neither
FP nor AltiVec instructions may come out.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.toolchain.gnu import complaint, run
from kgdbpatch.toolchain.link import Linked, link
from kgdbpatch.toolchain.support import FLAGS, header_options

__all__ = ["CObject", "Linked", "compile_c", "link"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CObject:
    """A compiled, unlinked C payload: the object file, its entry function, the names it needs.

    ``called`` are those of the needed names that are called directly, ``weak`` those that may be
    missing; ``exported`` are the global names that it defines itself, with what they are.
    """

    path: Path
    data: bytes
    entry: str
    functions: tuple[str, ...]
    needed: tuple[str, ...]
    called: frozenset[str]
    weak: frozenset[str] = frozenset()
    exported: tuple[tuple[str, str], ...] = ()  # (name, "function" or "variable")
    indirect: bool = True  # it branches through CTR or LR, otherwise than to return


def compile_c(path: Path, *, entry: str | None = None, include_dirs: Sequence[Path] = ()) -> CObject:
    """Compile a C file; raise `BadPatch` with the compiler's message or about the entry function.

    The entry is ``entry``, else the function named like the file, else the only global one.
    """
    path = Path(path)
    if not path.is_file():
        raise BadPatch(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory, header_options() as headers:
        target = Path(directory) / "payload.o"
        done = run(
            "gcc",
            *FLAGS,
            *headers,
            *("-c", "-x", "c", "-o", str(target)),
            *(f"-I{include}" for include in include_dirs),
            path,
            about=str(path),
        )
        if done.returncode or not target.exists():
            raise complaint(done.stderr, str(path), "gcc")
        for line in done.stderr.splitlines():
            _log.warning("%s", line)
        names = _names(target, path)
        called = _called(target, path)
        data = target.read_bytes()
    functions = tuple(name for name, kind in names if kind in "TtW")
    needed = tuple(name for name, kind in names if kind in "Uwv")
    return CObject(
        path=path,
        data=data,
        entry=_entry(path, entry, functions, tuple(name for name, kind in names if kind in "TW")),
        functions=functions,
        needed=needed,
        called=called & frozenset(needed),
        weak=frozenset(name for name, kind in names if kind in "wv"),
        exported=tuple(
            (name, "function" if kind in "TW" else "variable") for name, kind in names if kind in "TWVDBRSGC"
        ),
        indirect=_indirect(data),
    )


def _names(target: Path, path: Path) -> list[tuple[str, str]]:
    """Return the names of an object and what ``nm`` calls their kind."""
    done = run("nm", "--format=posix", target, about=str(path))
    if done.returncode:
        raise complaint(done.stderr, str(path), "nm")
    rows = (line.split() for line in done.stdout.splitlines())
    return [(row[0], row[1]) for row in rows if len(row) > 1]


def _indirect(data: bytes) -> bool:
    """Tell whether the code of an object goes anywhere through CTR or LR, otherwise than to return."""
    sections = ELFFile(io.BytesIO(data)).iter_sections()
    code = b"".join(s.data() for s in sections if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)
    found = map(decode, np.frombuffer(code, ">u4", len(code) // 4).tolist())
    return any(i.kind is Kind.INDIRECT or (i.kind is Kind.CALL and i.target is None) for i in found)


def _called(target: Path, path: Path) -> frozenset[str]:
    done = run("objdump", "-r", target, about=str(path))
    rows = [line.split() for line in done.stdout.splitlines()]
    return frozenset(row[2].split("+")[0] for row in rows if len(row) == 3 and row[1] == "R_PPC_REL24")


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
