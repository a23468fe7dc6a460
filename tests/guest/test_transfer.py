"""What stands in one guest is put into another, or in again after a boot: patches of each kind, in a file."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.errors import BadPatch, Misuse, Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.transfer import put_in
from kgdbpatch.patch.override import Override
from kgdbpatch.results import PatchState
from kgdbpatch.updates.patch_file import PatchFile
from kgdbpatch.updates.sets import PATCH, members_of, packed_set

from .work import beat, empty

pytestmark = pytest.mark.long

COUNTER = """
#include "step.h"
unsigned tally;
void counter(void) { tally += STEP * WIDTH; }
"""
LEAVING = """
#include <kgdbpatch.h>
unsigned left;
void leaving(struct kgp_exit *at) { left++; }
"""
READER = """
extern unsigned tally;
unsigned seen;
void reader(void) { seen = tally; }
"""

BUSY = [
    pytest.param(
        ("run_netisr", "strlen", "collatz_next", "strn*", "log_flush"),
        marks=pytest.mark.kernel("darwin"),
        id="darwin",
    ),
    pytest.param(
        ("udp_sendmsg", "strlen", "udp_rcv", "udp_v4_*", "nr_free_buffer_pages"),
        marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long],
        id="linux",
    ),
]


@pytest.fixture(params=BUSY)
def sites(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include/step.h").write_text("#define STEP 2\n")
    for name, text in (("counter", COUNTER), ("leaving", LEAVING), ("reader", READER)):
        (tmp_path / f"{name}.c").write_text(text)
    return tmp_path


def put_all(kernel: Kernel, sites: tuple[str, ...], sources: Path) -> None:
    """Put in a patch of each kind."""
    busy, counted, other, several, called = sites
    kernel.patch(busy, c=sources / "counter.c", include=[sources / "include"], define=["WIDTH=3"])
    kernel.patch(other, c=sources / "reader.c")
    kernel.patch(other, c=sources / "leaving.c", exit=True)
    kernel.patch(counted, asm="nop\nori 3,3,0\n", count=True)
    kernel.patch(busy, call=called)
    kernel.patch_all(several_of(kernel, several), count=True)
    kernel.patch(several_of(kernel, several)[0], override=Override(0, times=1, every=1 << 30))


def several_of(kernel: Kernel, pattern: str) -> list[int]:
    return [one.address for one in kernel.image.functions if fnmatchcase(one.name.lstrip("_"), pattern)]


def told(kernel: Kernel) -> list[tuple[object, ...]]:
    """Return what is the same of patches that are put in again."""
    return [
        (row.site, row.state, row.hits is None, row.exits is None, row.file, row.forced)
        for row in kernel.patch_table()
    ]


def counts(kernel: Kernel, name: str, variable: str) -> int:
    """Wait until a variable of a payload's has grown; return it."""
    until = time.monotonic() + 60
    while True:
        value = kernel.find_patch(kernel.patch_id(name)).variables[variable]
        assert isinstance(value, int)
        if value:
            return value
        assert time.monotonic() < until
        beat(kernel)


def test_patches_come_back_after_a_boot(
    kernel: Kernel, sites: tuple[str, ...], sources: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put_all(kernel, sites, sources)
    before = told(kernel)
    path = sources / "set.kup"
    path.write_bytes(kernel.updates.export())
    for file in sources.glob("*.c"):
        file.unlink()  # what was compiled goes along
    kernel.restore("booted")
    empty(kernel)
    assert run(["apply", kernel.name, str(path), "--json"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(rows) == len(before)
    assert told(kernel) == before
    assert counts(kernel, "counter", "tally") % 6 == 0
    assert counts(kernel, "reader", "seen") % 6 == 0
    assert counts(kernel, "leaving", "left")
    assert kernel.verify().ok
    assert kernel.updates.export() == path.read_bytes(), "the same patches are the same file"
    kernel.remove_all()
    beat(kernel)
    empty(kernel)


def test_for_another_kernel_the_text_is_compiled_again(
    kernel: Kernel, sites: tuple[str, ...], sources: Path
) -> None:
    kernel.patch(sites[0], c=sources / "counter.c", include=[sources / "include"], define=["WIDTH=5"])
    kernel.patch(sites[2], c=sources / "reader.c")
    file = sources / "set.kup"
    members = [PatchFile.parse(raw, file) for _, raw in members_of(kernel.updates.export(), file)]
    kernel.remove_all()
    foreign = [replace(one, built_for="another", addresses=(0,), objects={**one.objects}) for one in members]
    bad = replace(foreign[0], objects=dict.fromkeys(foreign[0].objects, b"\x7fELF"))
    file.write_bytes(packed_set([(PATCH, "", one.packed()) for one in (bad, *foreign[1:])]))
    kernel.updates.apply_set(file)
    assert counts(kernel, "counter", "tally") % 10 == 0
    assert counts(kernel, "reader", "seen") % 10 == 0
    kernel.remove_all()
    wrong = replace(foreign[1], words=(foreign[1].words[0] ^ 0x0800_0000,))
    file.write_bytes(packed_set([(PATCH, "", one.packed()) for one in (foreign[0], wrong)]))
    with pytest.raises(Refused, match="it is other code") as refused:
        kernel.updates.apply_set(file)
    assert refused.value.rule == "expected"
    lost = replace(foreign[1], sites=("no_such_function",))
    with pytest.raises(Refused, match="has no no_such_function"):
        put_in(kernel, lost, file)
    beat(kernel)
    empty(kernel)


def test_what_is_no_set_of_patches(kernel: Kernel, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="nothing can be exported"):
        kernel.updates.export()
    patch = kernel.patch("run_netisr", count=True)
    path = tmp_path / "set.kup"
    whole = kernel.updates.export()
    patch.remove()
    ((_, raw),) = members_of(whole, path)
    good = PatchFile.parse(raw, path)
    for wrong, about in (
        (replace(good, kind="poke"), "no kind of patch"),
        (replace(good, sites=()), "not as many"),
        (replace(good, words=(1 << 32,)), "more than 32 bits"),
        (replace(good, via="air"), "what cannot be"),
        (replace(good, kind="c"), "without their objects"),
        (replace(good, kind="asm"), "has no instruction"),
        (replace(good, sources={"00/../../x": b""}), "has no member"),
        (replace(good, sources={"00/..": b""}), "has no member"),
        (replace(good, count="yes"), "another type"),  # type: ignore[arg-type]
    ):
        path.write_bytes(packed_set([(PATCH, "", wrong.packed())]))
        with pytest.raises((BadPatch, Refused), match=about):
            kernel.updates.apply_set(path)
    for cut in range(0, len(whole), max(1, len(whole) // 20)):
        path.write_bytes(whole[:cut])
        with pytest.raises(BadPatch):
            kernel.updates.apply_set(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("patches/001.zip", b"")
        archive.writestr("patches/../001.zip", b"")
    with pytest.raises(BadPatch, match="a set has"):
        kernel.updates.apply_set(path)
    empty(kernel)


def test_what_nobody_remembers_is_told(kernel: Kernel, tmp_path: Path) -> None:
    kernel.patch("strlen", count=True)
    for file in (kernel.qemu.directory / "requests").iterdir():
        file.unlink()
    second = kernel.patch("strcmp", count=True)
    lines: list[str] = []
    whole = kernel.updates.export(lines.append)
    assert len(lines) == 1
    assert "strlen" in lines[0]
    kernel.remove_all()
    path = tmp_path / "set.kup"
    path.write_bytes(whole)
    (again,) = kernel.updates.apply_set(path)
    assert (again.site, again.state) == (second.site, PatchState.ACTIVE)  # type: ignore[union-attr]
    kernel.remove_all()
    empty(kernel)
