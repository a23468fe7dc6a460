"""Init and exit calls of payloads and updates: each once, in order, first and last.

The judge is what they write down in the order in which they are called.
"""

from __future__ import annotations

import difflib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from image.machobject import build, read_elf_object

from kgdbpatch.errors import Refused, TargetLost
from kgdbpatch.guests.darwin_build import build_tree
from kgdbpatch.kernel import Kernel
from kgdbpatch.results import PatchState
from kgdbpatch.updates.archive import write_update
from kgdbpatch.updates.build import build_update

from .test_changed_kernel import ASKED, INCLUDE, Asked
from .work import beat, empty

pytestmark = pytest.mark.long

BOTH = [
    pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
    pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
]
LEVELS = ("early", "0", "1", "3s", "rootfs", "6", "7")
ORDER = """
int order[32], count, called;
static void note(int what) { order[count++] = what; }
static void __attribute__((constructor)) plain(void) { note(3); }
static void __attribute__((constructor(300))) second(void) { note(2); }
static void __attribute__((constructor(101))) first(void) { note(1); }
static void __attribute__((destructor)) gone(void) { note(31); tell(); }
static void __attribute__((destructor(300))) later(void) { note(32); tell(); }
"""
INITCALL = """
static int call{number}(void) {{ note({number}); return {result}; }}
static int (*const row{number})(void) __attribute__((used, section(".initcall{level}.init"))) = call{number};
"""
TELL = 'static void tell(void) { kgp_printf("order %d of %d\\n", order[count - 1], count); }\n'


@pytest.fixture(params=BOTH)
def asked(request: pytest.FixtureRequest) -> Asked:
    return ASKED[request.param]


def payload(*, result: int = 0, more: str = "") -> str:
    rows = (
        INITCALL.format(number=10 + number, level=level, result=result if level == "7" else 0)
        for number, level in reversed([*enumerate(LEVELS)])
    )
    declared = ORDER.replace("static void note", f"{TELL}static void note", 1)
    return INCLUDE + declared + "".join(rows) + more + "void f(void) { called++; }\n"


def told(kernel: Kernel, mark: int, count: int) -> list[str]:
    """Return the lines that exit calls wrote to the guest's log."""
    until = time.monotonic() + 60
    while True:
        lines = [line.message for line in kernel.log.lines(mark, everything=True)]
        found = [line[line.index("order ") :].strip() for line in lines if "order " in line]
        if len(found) >= count or time.monotonic() > until:
            return found
        beat(kernel)


def test_init_calls_come_first_and_exit_calls_last(kernel: Kernel, asked: Asked) -> None:
    mark = kernel.log.position()
    patch = kernel.patch(asked.busy, c=payload(), entry="f")
    wanted = [1, 2, 3, *range(10, 10 + len(LEVELS))]
    assert cast("list[int]", patch.variables["order"])[: len(wanted) + 1] == [*wanted, 0]
    beat(kernel)
    assert patch.variables["count"] == len(wanted)
    assert patch.variables["called"]
    assert told(kernel, mark, 0) == []
    empty(kernel)
    count = len(wanted)
    assert told(kernel, mark, 2) == [f"order 31 of {count + 1}", f"order 32 of {count + 2}"]
    beat(kernel)


def test_an_init_call_that_fails_leaves_nothing_behind(kernel: Kernel, asked: Asked) -> None:
    mark = kernel.log.position()
    with pytest.raises(Refused, match=f"init call call{9 + len(LEVELS)} says no: it returned -12") as error:
        kernel.patch(asked.busy, c=payload(result=-12), entry="f")
    assert error.value.rule == "veto"
    empty(kernel)
    beat(kernel)
    assert told(kernel, mark, 0) == []  # what was not begun is not ended


def test_exit_calls_wait_until_the_last_one_has_left(kernel: Kernel, asked: Asked) -> None:
    mark = kernel.log.position()
    text = payload(more=f"void g(void) {{ {asked.sleep}; called++; }}\n".replace("300", "200"))
    declared = "extern void msleep(unsigned);\nextern void delay_ticks(unsigned);\n"
    patch = kernel.patch(asked.busy, c=text.replace(ORDER[:4], declared + ORDER[:4], 1), entry="g")
    until = time.monotonic() + 60
    while not patch.hits and time.monotonic() < until:
        time.sleep(0.01)
    assert patch.hits
    patch.remove()
    row = next((row for row in kernel.patch_table() if row.id == patch.id), None)
    if row is not None:  # somebody was inside
        assert row.state is PatchState.RETIRED
        assert told(kernel, mark, 0) == []
    empty(kernel)
    assert len(told(kernel, mark, 2)) == 2


def test_a_paused_guest_makes_no_calls(kernel: Kernel, asked: Asked) -> None:
    patch = kernel.patch(asked.busy, c=payload(), entry="f")
    mark = kernel.log.position()
    kernel.pause()
    try:
        with pytest.raises(TargetLost, match="paused; the payload has init calls"):
            kernel.patch(asked.busy, c=payload(), entry="f")
        assert kernel.remove(patch.id) == [patch.id]
        (row,) = kernel.patch_table()
        assert "exit calls that were not made" in {holder.by for holder in row.held_by}
    finally:
        kernel.resume()
    assert told(kernel, mark, 0) == []
    empty(kernel)
    assert len(told(kernel, mark, 2)) == 2


@pytest.mark.kernel("darwin")
def test_objects_of_darwins_compilers(kernel: Kernel, tmp_path: Path) -> None:
    """``__mod_init_func`` and ``__mod_term_func`` of MH_OBJECT."""
    if shutil.which("powerpc-linux-gnu-gcc") is None:
        pytest.skip("no cross compiler")
    source = tmp_path / "made.c"
    text = "int state; extern int printf(const char *, ...);\nvoid begin(void) { state += 5; }\n"
    text += 'static char line[] = "order %d of 1\\n";\n'
    text += "void finish(void) { printf(line, state); }\nvoid f(void) { state |= 0x100; }\n"
    for name, function in (("init_array", "begin"), ("fini_array", "finish")):
        text += f'void (*const {name}_row)(void) __attribute__((section(".{name}"))) = {function};\n'
    for name in ("state", "printf", "begin", "finish", "f"):
        text = f"#define {name} _{name}\n{text}"
    source.write_text(text)
    elf, macho = source.with_suffix(".elf"), source.with_suffix(".o")
    options = ("-O1", "-mcpu=750", "-ffreestanding", "-fno-pic", "-msdata=none", "-fno-builtin", "-c", "-o")
    subprocess.run(["powerpc-linux-gnu-gcc", *options, elf, source], check=True)
    macho.write_bytes(build(read_elf_object(elf.read_bytes()), scattered=False))
    mark = kernel.log.position()
    kernel.patch("run_netisr", c=macho, entry="f")
    beat(kernel)
    empty(kernel)
    assert told(kernel, mark, 1) == [f"order {0x105} of 1"]


@pytest.mark.kernel("darwin")
@pytest.mark.long
def test_init_calls_of_an_update(kernel: Kernel, tmp_path: Path, changed: Callable[..., Path]) -> None:
    added = (
        "static int told;\nint sys_sysctl(",
        "static void __attribute__((constructor)) begin(void) { told = EINVAL; }",
        'static void __attribute__((destructor)) finish(void) { printf("order %d of 1\\n", told); }',
    )
    path = changed(
        "begun",
        "kern/sysctl.c",
        ("#include", "static int told;\n#include"),
        ("    return ENOENT;", "    return told;"),
        ("int sys_sysctl(", "\n".join((*added[1:], "int sys_sysctl("))),
    )
    mark = kernel.log.position()
    for again in range(2):
        kernel.updates.apply(path, accept=["all"], wait=60)
        beat(kernel)
        kernel.updates.remove("begun", wait=60)
        assert told(kernel, mark, 1 + again) == ["order 22 of 1"] * (1 + again)
    empty(kernel)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Return the update that a change of darwin's source makes."""

    def made(name: str, file: str, *changes: tuple[str, str]) -> Path:
        tree = build_tree(tmp_path / "tree", lambda _: None)
        before = after = (tree / file).read_text()
        for old, new in changes:
            assert old in after
            after = after.replace(old, new, 1)
        patch, path = tmp_path / f"{name}.patch", tmp_path / f"{name}.kup"
        old_lines, new_lines = (text.splitlines(keepends=True) for text in (before, after))
        patch.write_text("".join(difflib.unified_diff(old_lines, new_lines, f"a/{file}", f"b/{file}")))
        write_update(build_update(patch, tree, lambda _: None), path)
        return path

    return made
