"""A kernel in RAM has given its table of ftrace's entries up: they are told by how functions begin."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image
from kgdbpatch.patch.rewritten import FTRACE
from kgdbpatch.personality.linux.rewritten import rewritten

from .elf import needs_binutils, put_together

pytestmark = needs_binutils

_GCC = "powerpc-linux-gnu-gcc"
CALLER = """
    .globl ftrace_caller
    .type ftrace_caller, @function
ftrace_caller: stwu r1, -16(r1)
ftrace_call: bl ftrace_stub
    blr
    .size ftrace_caller, . - ftrace_caller
ftrace_stub: blr
"""
ENTRIES = """
    .text
    .globl _start
    .type room, @function
_start: b room
room:
hit1: nop
hit2: nop
    addi r3, r3, 1
    nop
    nop
    blr
    .size room, . - room
hit3: nop               /* another one, whose name nobody knows */
hit4: nop
    li r3, 0
    b room
    .type old, @function
old: mflr r0
    stw r0, 4(r1)
{old}
    stwu r1, -16(r1)
    mflr r0
    stw r0, 4(r1)
    nop
    blr
    .size old, . - old
    .type traced, @function
traced:
hit6: mflr r0
hit7: bl {caller}
    blr
    .size traced, . - traced
    .type booted, @function
booted:                 /* as newer kernels leave it once they are up */
hit8: mflr r0
hit9: nop
    stwu r1, -16(r1)
    blr
    .size booted, . - booted
    .type plain, @function
plain: stwu r1, -16(r1)
    mflr r0
    nop
    nop
    blr
    .size plain, . - plain
"""


def found(image: Image) -> set[int]:
    return {at for at, what in rewritten(image).items() if what.kind == FTRACE}


@pytest.mark.parametrize("old", ["hit5: nop", "hit5: bl ftrace_caller"])
def test_how_functions_begin(tmp_path: Path, old: str) -> None:
    image = put_together(tmp_path, ENTRIES.format(old=old, caller="ftrace_caller") + CALLER)
    own = {image.lookup("ftrace_call")}
    marked = {symbol.address for symbol in image.symbols if symbol.name.startswith("hit")}
    assert found(image) == marked | own


def test_a_kernel_without_ftrace_has_none(tmp_path: Path) -> None:
    image = put_together(tmp_path, ENTRIES.format(old="nop", caller="other") + "other: blr\n")
    assert found(image) == set()


@pytest.mark.skipif(shutil.which(_GCC) is None, reason=f"{_GCC} is not installed")
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
def test_what_the_compiler_lists(tmp_path: Path, level: str) -> None:
    """GCC's own table is the judge: the same program with it and without it."""
    functions = "int made0(int *p, int n) { return p[n]; }\n" + "".join(
        f"int made{n}(int *p, int n) {{ int s = {n}; for (int i = 0; i < n; i++) s = s * 31 + p[i] % {n + 3};"
        f" {'volatile char b[64]; b[n & 63] = s; s += b[1];' if n % 3 == 0 else ''}"
        f" return {f'made{n - 1}(p, s & 7)' if n % 2 else 's'}; }}\n"
        for n in range(1, 40)
    )
    (tmp_path / "a.c").write_text(functions)
    flags = [level, "-ffreestanding", "-fpatchable-function-entry=2", "-S", "-o", "-"]
    command = [_GCC, *flags, str(tmp_path / "a.c")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    source = said + ".text\n.globl _start\n_start: b made1\n" + CALLER
    with_table = put_together(tmp_path, source)
    known = found(with_table)
    assert len(known) >= 2 * 40
    bare = tmp_path / "bare"
    remove = ["powerpc-linux-gnu-objcopy", "-R", "__patchable_function_entries"]
    subprocess.run([*remove, str(with_table.path), str(bare)], check=True)
    assert found(Image.load(bare)) == known
