"""Updates that must not be applied: one line, the right code, the guest and its arena as before."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.guests.darwin_build import build_tree
from kgdbpatch.kernel import Kernel
from kgdbpatch.results import UpdateRow
from kgdbpatch.updates.archive import Update, member, read_update, write_update
from kgdbpatch.updates.build import build_update
from kgdbpatch.updates.manifest import Callbacks, Manifest
from kgdbpatch.updates.sets import UPDATE, packed_set

from .observations import DARWIN
from .work import beat, empty

pytestmark = pytest.mark.kernel("darwin")
OBJECT = "objects/update.o"
REL24 = 10


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Update]:
    """Return an update of darwin's that is as it should be."""
    folder = tmp_path_factory.mktemp("good")
    tree = build_tree(folder / "tree", lambda what: None)
    made: dict[str, Update] = {}

    def of(name: str) -> Update:
        if name not in made:
            one = next(one for one in DARWIN if one.name == name)
            write_update(build_update(one.patch, tree, lambda what: None), folder / "good.kup")
            made[name] = read_update(folder / "good.kup")
        return made[name]

    return of


def changed(update: Update, **fields: object) -> Update:
    return Update(replace(update.manifest, **fields), update.objects)  # type: ignore[arg-type]


def with_object(update: Update, data: bytes) -> Update:
    return Update(replace(update.manifest, object=(member(OBJECT, data),)), {OBJECT: data})


def function(update: Update, **fields: object) -> Update:
    row = replace(update.manifest.function[0], **fields)  # type: ignore[arg-type]
    return changed(update, function=(row, *update.manifest.function[1:]))


def data(update: Update, **fields: object) -> Update:
    rows = [replace(row, **fields) if row.kind == "write" else row for row in update.manifest.data]  # type: ignore[arg-type]
    return changed(update, data=tuple(rows))


def renamed(update: Update, old: bytes, new: bytes) -> Update:
    """Return an update whose object has another name of the same length."""
    raw = update.objects[OBJECT]
    assert old in raw
    assert len(old) == len(new)
    return with_object(update, raw.replace(old, new))


def relocated(update: Update, kind: int) -> Update:
    """Return an update whose first branch is of another kind of relocation."""
    raw = bytearray(update.objects[OBJECT])
    for table in ELFFile(io.BytesIO(raw)).iter_sections("SHT_RELA"):
        for at in range(table["sh_offset"], table["sh_offset"] + table["sh_size"], table["sh_entsize"]):
            if raw[at + 7] == REL24:
                raw[at + 7] = kind
                return with_object(update, bytes(raw))
    raise AssertionError("the update calls nothing")


BAD: dict[str, tuple[str, Callable[[Update], Update], int, str]] = {
    "another kernel's function": ("bound", lambda u: function(u, checksum="0" * 64), 3, "is not the code"),
    "a function longer than the kernel's": (
        "bound",
        lambda u: function(u, size=u.manifest.function[0].size + 4),
        3,
        "is not the code",
    ),
    "no function of that name": ("bound", lambda u: function(u, name="_nowhere"), 2, "no symbol '_nowhere'"),
    "a function that is data": ("bound", lambda u: function(u, name="_msgbuf"), 3, "is not the code"),
    "an undefined name": (
        "static_variable",
        lambda u: renamed(u, b"_printf", b"_prantf"),
        5,
        "no symbol '_prantf'",
    ),
    "a new symbol that is not there": (
        "bound",
        lambda u: function(u, symbol="_elsewhere"),
        5,
        "no object has the symbol",
    ),
    "a relocation that there is not": ("static_variable", lambda u: relocated(u, 200), 5, ""),
    "a callback that is not there": (
        "bound",
        lambda u: changed(u, callbacks=Callbacks(pre_apply="_never")),
        5,
        "no object has the symbol _never",
    ),
    "a decision that nobody took": ("table", lambda u: u, 3, "to be decided first: data:_counters"),
    "data that is not as it was built": (
        "table",
        lambda u: decided(data(u, before="12345678")),
        3,
        "as it was built",
    ),
    "no data of that name": ("table", lambda u: decided(data(u, name="_nothing")), 2, "no symbol '_nothing'"),
    "functions that are nowhere to be quiet": (
        "bound",
        lambda u: changed(u, quiet=("_nobody_has_it",)),
        2,
        "no symbol '_nobody_has_it'",
    ),
    "nothing to do": ("bound", lambda u: changed(u, function=(), data=()), 5, "replaces nothing"),
    "a name with a folder": ("bound", lambda u: changed(u, name="../up"), 5, "name is"),
    "an object of another machine": (
        "bound",
        lambda u: with_object(u, u.objects[OBJECT][:18] + b"\0\3" + u.objects[OBJECT][20:]),
        5,
        "not a relocatable ELF object",
    ),
    "an object that ends early": ("bound", lambda u: with_object(u, u.objects[OBJECT][:200]), 5, "damaged"),
    "shadow data without end": (
        "shadow_field",
        lambda u: changed(u, shadow=replace(u.manifest.shadow, bytes=1 << 30)),
        5,
        "shadow is out of range",
    ),
    "more shadow data than there is room for": (
        "shadow_field",
        lambda u: changed(u, shadow=replace(u.manifest.shadow, bytes=16 << 20)),
        3,
        "no room",
    ),
    "a consistency that there is not": (
        "bound",
        lambda u: changed(u, consistency="some"),
        5,
        "'whole' and 'call' are known",
    ),
}


def decided(update: Update) -> Update:
    rows = tuple(replace(row, decided=True) for row in update.manifest.decision)
    return changed(update, decision=rows)


def refused(kernel: Kernel, path: Path, code: int, told: str) -> None:
    """Apply what must not be; see that all is as it was."""
    before = (kernel.patches, kernel.arena_used)
    with pytest.raises(KgdbPatchError) as caught:
        kernel.updates.apply_set(path, wait=60)
    said = str(caught.value)
    assert caught.value.exit_code == code, said
    assert re.search(re.escape(told), said), said
    assert "\n" not in said
    assert (kernel.patches, kernel.arena_used) == before
    assert kernel.verify().ok


@pytest.mark.parametrize("what", BAD)
def test_a_bad_update_is_refused(
    kernel: Kernel, good: Callable[[str], Update], tmp_path: Path, what: str
) -> None:
    name, spoil, code, told = BAD[what]
    path = tmp_path / "bad.kup"
    write_update(spoil(good(name)), path)
    refused(kernel, path, code, told)


def test_damaged_files_are_refused(kernel: Kernel, good: Callable[[str], Update], tmp_path: Path) -> None:
    path = tmp_path / "bad.kup"
    write_update(good("bound"), path)
    whole = path.read_bytes()
    for raw in (b"", b"PK", b"\x7fELF", whole[:-30], whole[30:], whole[:400] + bytes(40) + whole[440:]):
        path.write_bytes(raw)
        refused(kernel, path, 5, "bad.kup")
    path.unlink()
    refused(kernel, path, 5, "No such file")


def test_a_set_is_applied_whole_or_not_at_all(
    kernel: Kernel, good: Callable[[str], Update], tmp_path: Path
) -> None:
    files = []
    for name, update in (("one", good("bound")), ("two", good("errno"))):
        write_update(changed(update, name=name), tmp_path / name)
        files.append((UPDATE, name, (tmp_path / name).read_bytes()))
    path = tmp_path / "set.kup"
    write_update(changed(function(good("errno"), checksum="0" * 64), name="bad"), tmp_path / "bad")
    path.write_bytes(packed_set([*files, (UPDATE, "bad", (tmp_path / "bad").read_bytes())]))
    refused(kernel, path, 3, "is not the code")
    path.write_bytes(packed_set([(UPDATE, "../one", files[0][2])]))
    refused(kernel, path, 5, "a set has updates/NNN-NAME.kup")
    path.write_bytes(packed_set(files))
    rows = kernel.updates.apply_set(path, wait=60)
    assert [row.name for row in rows if isinstance(row, UpdateRow)] == ["one", "two"]
    assert kernel.updates.export() == path.read_bytes()
    beat(kernel)
    empty(kernel)


def test_the_manifest_is_read_as_it_was_written(good: Callable[[str], Update]) -> None:
    manifest = changed(good("table"), quiet=("_printf",), supersedes=("*",)).manifest
    assert Manifest.from_toml(manifest.to_toml(), "it") == manifest
