"""From a source patch to an update: compile with and without it, compare, choose, write."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.updates.archive import Update, member
from kgdbpatch.updates.btf import Types
from kgdbpatch.updates.compiling import Pair, pairs
from kgdbpatch.updates.decisions import changed_types, decide
from kgdbpatch.updates.elf_object import ElfObject
from kgdbpatch.updates.kbuild import Tree, Unit
from kgdbpatch.updates.manifest import Callbacks, Decision, MadeFor, Manifest
from kgdbpatch.updates.object_diff import compare
from kgdbpatch.updates.object_writer import OutSection, write_object
from kgdbpatch.updates.overlay import overlay
from kgdbpatch.updates.pieces import Pieces
from kgdbpatch.updates.selection import Selection
from kgdbpatch.updates.source_patch import SourcePatch

__all__ = ["build_update"]

_OBJECT = "objects/update.o"
_OURS = "kgp_"  # names that are not the kernel's but given when an update is applied


def build_update(patch_file: Path, tree_path: Path, progress: Callable[[str], None]) -> Update:
    """Make an update of a source patch to a built tree, which is only read.

    `BadPatch` where the patch does not apply or compile, or changes nothing that runs; `Misuse` where the
    tree is not built.
    """
    tree = Tree(tree_path)
    patch = SourcePatch.read(patch_file, tree.path)
    units = _units(patch, tree)
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-update-") as folder:
        view, scratch = Path(folder, "tree"), Path(folder, "objects")
        scratch.mkdir()
        overlay(tree.path, patch, {file for unit in units for file in unit.files}, view)
        selections = []
        for number, pair in enumerate(pairs(units, tree, view, scratch), 1):
            progress(f"{pair.unit.source}: compiled with and without the patch ({number} of {len(units)})")
            selections.append(_selected(pair, patch, tree))
    return _update(patch, tree, selections)


def _units(patch: SourcePatch, tree: Tree) -> list[Unit]:
    found: dict[str, Unit] = {}
    read = []
    for touched in patch.files:
        place = Path(touched.name)
        if place.suffix == ".c" and (tree.path / place.parent / f".{place.stem}.o.cmd").is_file():
            unit = tree.unit(touched.name)
            found[unit.object] = unit
        elif place.suffix in (".c", ".h"):
            read.append(touched.name)
        else:
            raise BadPatch(
                f"{patch.path}: {touched.name} is neither C nor a header: no update can carry that"
            )
    if read:
        units = {unit.object: unit for unit in tree.dependents(read)}
        if not units and not found:
            raise Misuse(f"{tree.path}: nothing that is built there is made from {read[0]}: run make vmlinux")
        found |= units
    return list(found.values())


def _selected(pair: Pair, patch: SourcePatch, tree: Tree) -> Selection:
    unit = pair.unit
    about = unit.source
    own = tree.path / unit.object
    if not own.is_file():
        raise Misuse(f"{tree.path}: {unit.object} is not there: run make vmlinux")
    parsed = [ElfObject.parse(data, about) for data in (pair.before, pair.after)]
    touched = next((file for file in patch.files if file.name == os.path.normpath(about)), None)
    difference = compare(Pieces(parsed[0]), Pieces(parsed[1]), *([touched.line_with] if touched else []))
    tree_object = Pieces(ElfObject.parse(own.read_bytes(), unit.object))
    selection = Selection(difference, tree_object, about, unit.module)
    selection.choose()
    selection.decisions += decide(difference, selection.included, about)
    types = [elf.named(".BTF") for elf in parsed]
    if types[0] and types[1]:
        if types[0].data != types[1].data:
            selection.decisions += changed_types(
                difference, Types(types[0].data), Types(types[1].data), about
            )
    else:
        selection.notes.append(f"{about}: the compiler tells no types, structures were not compared")
    if difference.lines_only:
        names = ", ".join(difference.after.all[number].name for number in difference.lines_only)
        selection.notes.append(f"{about}: only numbers of lines differ in {names}: not replaced")
    return selection


def _update(patch: SourcePatch, tree: Tree, selections: Sequence[Selection]) -> Update:
    functions = [one for selection in selections for one in selection.functions]
    data = [one for selection in selections for one in selection.data]
    decisions = _distinct(one for selection in selections for one in selection.decisions)
    if not functions and not any(one.kind == "write" for one in data):
        told = "; ".join(one.text for one in decisions)
        raise BadPatch(f"{patch.path}: changes no code of the kernel that runs{': ' if told else ''}{told}")
    sections = [section for selection in selections for section in selection.sections]
    _check_symbols(patch.path, selections)
    code = write_object(sections)
    manifest = Manifest(
        name=re.sub(r"[^A-Za-z0-9_.+-]", "-", patch.path.stem)[:100] or "update",
        description=patch.description,
        made_for=MadeFor(tree.release(), _build_id(tree.path / "vmlinux")),
        function=tuple(functions),
        data=tuple(data),
        reference=tuple(r for selection in selections for _, r in sorted(selection.references.items())),
        decision=(*decisions, *_unknown(tree.path, selections)),
        object=(member(_OBJECT, code),),
        callbacks=_callbacks(sections),
        notes=tuple(note for selection in selections for note in selection.notes),
    )
    return Update(manifest, {_OBJECT: code})


def _callbacks(sections: Iterable[OutSection]) -> Callbacks:
    """Return which callbacks the patched source defines: ``kgp_pre_apply`` and so on."""
    defined = {symbol.name for section in sections for symbol in section.symbols}
    spelt = [(one.name, f"{prefix}{_OURS}{one.name}") for one in fields(Callbacks) for prefix in ("", "_")]
    return Callbacks(**{name: symbol for name, symbol in spelt if symbol in defined})


def _distinct(decisions: object) -> list[Decision]:
    found: dict[str, Decision] = {}
    for one in decisions:  # type: ignore[attr-defined]
        known = found.get(one.id)
        if known is not None and known.text != one.text and one.kind != "changed-structure":
            number = sum(name == one.id or name.startswith(f"{one.id}:") for name in found) + 1
            one = replace(one, id=f"{one.id}:{number}")
        elif known is not None:
            continue
        found[one.id] = one
    return list(found.values())


def _check_symbols(path: Path, selections: Sequence[Selection]) -> None:
    """Make sure that no two pieces have one name: two sources may have the same new global function."""
    seen: set[str] = set()
    for selection in selections:
        for section in selection.sections:
            for symbol in section.symbols:
                if symbol.name in seen:
                    raise BadPatch(f"{path}: {symbol.name} is defined twice")
                seen.add(symbol.name)


def _unknown(tree: Path, selections: Sequence[Selection]) -> list[Decision]:
    """Return a decision for each name that is needed and that the kernel's list of symbols lacks."""
    listed = tree / "System.map"
    if not listed.is_file():
        return []
    known = {line.rpartition(" ")[2] for line in listed.read_text(errors="replace").splitlines()}
    own = {symbol.name for s in selections for section in s.sections for symbol in section.symbols}
    wanted = sorted({name for selection in selections for name in selection.outside} - own)
    return [
        Decision(
            f"symbol:{name}",
            "unknown-symbol",
            f"the kernel itself has no {name}: a module, or the update's user, must",
        )
        for name in wanted
        if name not in known and not name.lstrip("_").startswith(_OURS)
    ]


def _build_id(vmlinux: Path) -> str:
    """Return the build id of a kernel in hexadecimal, "" where it has none or is not there."""
    try:
        with vmlinux.open("rb") as file:
            sections: Any = ELFFile(file).iter_sections("SHT_NOTE")
            for section in sections:
                for note in section.iter_notes():
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])
    except (OSError, ELFError):
        pass
    return ""
