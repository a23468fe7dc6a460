"""A miniature tree with Kbuild's notes: from a source patch to a .kup file and back."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.updates.archive import Update, read_update, write_update
from kgdbpatch.updates.build import build_update

CC = "powerpc-linux-gnu-gcc"
pytestmark = pytest.mark.skipif(shutil.which(CC) is None, reason=f"{CC} is not installed")
SOURCE = """\
#include "h.h"
extern void out(const char *text, int number);
static int count;
static const char *name = "first";
int twice(int value) { return helper(value) * 2; }
int limit(int value) { if (value > 10) return -1; count++; out(name, value); return value; }
void where(void) { out(__FILE__, __LINE__); }
"""
HEADER = "static inline int helper(int value) { return value + 3; }\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    (place / "lib").mkdir(parents=True)
    (place / "lib/a.c").write_text(SOURCE)
    (place / "lib/h.h").write_text(HEADER)
    words = f"{CC} -O2 -m32 -fno-PIE -D__KERNEL__ -Wp,-MMD,lib/.a.o.d -c -o lib/a.o lib/a.c"
    subprocess.run(words.split(), cwd=place, check=True)
    note = f"cmd_lib/a.o := {words}\n\nsource_lib/a.o := lib/a.c\n\ndeps_lib/a.o := \\\n  lib/h.h \\\n\n"
    (place / "lib/.a.o.cmd").write_text(note)
    return place


@pytest.fixture
def build(tree: Path, tmp_path: Path) -> Callable[..., Update]:
    def made(old: str, new: str, file: str = "lib/a.c") -> Update:
        text = (tree / file).read_text()
        assert old in text
        before, after = (one.splitlines(keepends=True) for one in (text, text.replace(old, new)))
        patch = tmp_path / "fix.patch"
        patch.write_text("".join(difflib.unified_diff(before, after, f"a/{file}", f"b/{file}")))
        return build_update(patch, tree, lambda what: None)

    return made


def names(update: Update) -> set[str]:
    return {one.name for one in update.manifest.function}


def test_a_changed_function_alone_is_replaced(build: Callable[..., Update]) -> None:
    update = build("value > 10", "value > 9")
    assert names(update) == {"limit"}
    assert {one.name for one in update.manifest.reference} == {"count"}
    assert update.manifest.decision == ()


def test_lines_that_moved_are_no_change(build: Callable[..., Update]) -> None:
    update = build("int limit(int value) { if", "\n\nint limit(int value) { if (value == 3) return 4; if")
    assert names(update) == {"limit"}
    assert any("where" in note for note in update.manifest.notes)


def test_a_changed_inline_shows_in_its_callers(build: Callable[..., Update]) -> None:
    assert names(build("value + 3", "value + 4", "lib/h.h")) == {"twice"}


def test_code_of_a_section_of_its_own_and_an_empty_variable_go_along(
    build: Callable[..., Update], tmp_path: Path
) -> None:
    """As the kernel's scheduler is gathered, and keys of locks are where nobody checks locks."""
    special = '__attribute__((section(".sched.text"))) int limit(int value)'
    update = build(
        "int limit(int value) { if (value > 10) return -1;",
        f"struct key {{}}; void keep(void *);\n{special} "
        "{ static struct key key; keep(&key); if (value > 9) return -1;",
    )
    assert names(update) == {"limit"}
    (data,) = update.objects.values()
    (tmp_path / "made.o").write_bytes(data)
    told = subprocess.run(
        ["powerpc-linux-gnu-readelf", "-SsW", tmp_path / "made.o"], check=True, capture_output=True, text=True
    ).stdout
    assert ".text.limit" in told
    assert ".sched.text" not in told
    assert "UND .bss" not in told


def test_a_new_variable_goes_along(build: Callable[..., Update]) -> None:
    update = build("count++;", "count++; { static int more; if (more++) return 0; }")
    assert [one.kind for one in update.manifest.data] == ["new"]


def test_a_changed_value_is_to_be_decided(build: Callable[..., Update]) -> None:
    update = build("static int count;", "int table[2] = { 1, 2 };\nstatic int count = 5;")
    assert "data:count" in {one.id for one in update.manifest.decision}


def test_the_tree_is_left_alone_and_the_file_is_the_same_twice(
    build: Callable[..., Update], tree: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    files = [tmp_path / "1.kup", tmp_path / "2.kup"]
    for file in files:
        update = build("value > 10", "value > 9")
        write_update(update, file)
        assert read_update(file) == update
    assert files[0].read_bytes() == files[1].read_bytes()
    assert before == {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_nothing_changed_is_told(build: Callable[..., Update]) -> None:
    with pytest.raises(BadPatch, match="changes no code"):
        build("static int count;", "static int count; /* of calls */")


def test_what_does_not_apply_is_told_with_its_place(tree: Path, tmp_path: Path) -> None:
    patch = tmp_path / "fix.patch"
    patch.write_text("--- a/lib/a.c\n+++ b/lib/a.c\n@@ -3,1 +3,1 @@\n-nothing like it\n+other\n")
    with pytest.raises(BadPatch, match=r"lib/a\.c:3: .*FAILED"):
        build_update(patch, tree, lambda what: None)


def test_a_tree_that_is_not_built_is_told(build: Callable[..., Update], tree: Path) -> None:
    (tree / "lib/a.o").unlink()
    with pytest.raises(Misuse, match="make vmlinux"):
        build("value > 10", "value > 9")


@pytest.mark.parametrize(
    "member", ["../x.o", "/x.o", "objects/../../x.o", "notes.txt", "objects/other.o", "update.toml"]
)
def test_hostile_members_are_refused(build: Callable[..., Update], tmp_path: Path, member: str) -> None:
    file = tmp_path / "x.kup"
    write_update(build("value > 10", "value > 9"), file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(member, b"x")
    with pytest.raises(BadPatch):
        read_update(file)


def test_every_truncated_file_is_refused(build: Callable[..., Update], tmp_path: Path) -> None:
    file = tmp_path / "x.kup"
    write_update(build("value > 10", "value > 9"), file)
    whole = file.read_bytes()
    for length in range(0, len(whole), 37):
        file.write_bytes(whole[:length])
        with pytest.raises(BadPatch):
            read_update(file)
