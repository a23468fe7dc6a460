"""Compile and combine payloads for the registers r3..r10 of a site; neither FP nor AltiVec may come out."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch
from kgdbpatch.toolchain.admitted import check_admitted
from kgdbpatch.toolchain.cc import Compiler, TreeCompiler
from kgdbpatch.toolchain.init_calls import OF_MODULES, has_exit_calls, has_init_calls
from kgdbpatch.toolchain.inputs import as_input, combine
from kgdbpatch.toolchain.link import Linked, link
from kgdbpatch.toolchain.objects import called, is_indirect, names
from kgdbpatch.toolchain.payload_notes import BEGIN, PayloadNotes, payload_notes
from kgdbpatch.toolchain.support import TARGET

__all__ = ["CObject", "Linked", "Part", "TreeCompiler", "compile_c", "link"]

_NOTHING = PayloadNotes()


class Part(NamedTuple):
    """One of the files of a payload: its name, its C text if it has one, the object that can stand for it."""

    name: str
    source: bytes | None
    object: bytes


@dataclass(frozen=True, slots=True)
class CObject:
    """A compiled, unlinked C payload: its entry function, the names it needs, calls (``called``), exports.

    ``path`` is the first of its files, ``home`` the object of the one that has the entry function.
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
    target: str = TARGET  # the CPU that it is for
    notes: PayloadNotes = _NOTHING
    home: bytes = b""
    darwin: bool = False  # its functions want their callers' frames as Darwin's do
    origins: Mapping[str, Path] = field(default_factory=dict)  # which file has what it exports
    parts: tuple[Part, ...] = ()
    begins: bool = False  # it has init calls: constructors, Linux's initcalls
    ends: bool = False  # it has what is to be called at its end


def compile_c(
    source: str | Path | Sequence[str | Path],
    *,
    entry: str | None = None,
    include_dirs: Sequence[Path] = (),
    target: str = TARGET,
    defines: Sequence[str] = (),
    compiler: str = "gcc",
    tree: TreeCompiler | None = None,
    types: Callable[[str], str] | None = None,
) -> CObject:
    """Make one object of C (text or files), object files and archives, as linkers do.

    Raises `BadPatch` with the compiler's or the linker's message, or about the entry function. That is
    ``entry``, else the one named like the first file, else the only global one of it. The rest is as for
    `Compiler`.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    how = Compiler(compiler, target, include_dirs, defines, tree, types)
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        place = Path(directory)
        inputs = [as_input(one, number, place, how) for number, one in enumerate(sources)]
        data = combine(inputs, entry, place)
        first = data if len(inputs) == 1 or inputs[0].archive else inputs[0].read()
        parts = tuple(Part(_named(one.path), one.source, one.kept()) for one in inputs)
        single = {one.path: one.read() for one in inputs if not one.archive}
    path = inputs[0].path
    check_admitted(data, str(path))
    file = ELFFile(io.BytesIO(data))
    found = sorted(names(file), key=lambda name: name.name)
    functions = tuple(name.name for name in found if name.function)
    needed = tuple(name.name for name in found if not name.defined)
    exported = [name for name in found if name.defined and name.exported]
    chosen = _entry(path, entry, functions, first)
    if functions.count(chosen) > 1 and chosen not in {name.name for name in exported}:
        raise BadPatch(f"{path}: several files have a static function '{chosen}': make the entry global")
    origins = {name: of for of, one in single.items() for name in _exports(one)}
    home = single.get(origins.get(chosen, path), data)
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
        notes=payload_notes(home, chosen, str(origins.get(chosen, path))),
        home=home,
        darwin=any(one.darwin for one in inputs),
        origins=origins,
        parts=parts,
        begins=has_init_calls(file),
        ends=has_exit_calls(file),
    )


def _named(path: Path) -> str:
    """Return a file's name, which ends as such do and hides nothing."""
    return f"{path.name.lstrip('.') or 'payload'}{'' if path.suffix else '.c'}"


def _exports(data: bytes) -> list[str]:
    return [one.name for one in names(ELFFile(io.BytesIO(data))) if one.defined and one.exported]


def _entry(path: Path, wanted: str | None, functions: tuple[str, ...], first: bytes) -> str:
    """Return the function to call; ``first`` is the first file's object, ``functions`` those of all."""
    listed = ", ".join(dict.fromkeys(functions)) or "none"
    if wanted is not None:
        if wanted not in functions:
            raise BadPatch(f"{path}: no function '{wanted}'; there are: {listed}")
        return wanted
    own = [one for one in names(ELFFile(io.BytesIO(first))) if one.function]
    if path.stem in (one.name for one in own):
        return path.stem
    exported = sorted(one.name for one in own if one.exported and one.name not in (*OF_MODULES, BEGIN))
    if len(exported) == 1:
        return exported[0]
    if not exported:
        raise BadPatch(f"{path}: no function to call; make one global (not static)")
    raise BadPatch(f"{path}: which function is the entry? name it with --entry: {', '.join(exported)}")
