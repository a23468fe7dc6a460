"""What a word of code reads in any of the forms that the kernel gives it is live before it.

The judge is the same program with the word in its other form: what is live there must be live here.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image

from .elf import needs_binutils, put_together, site_checker_of_linux

_GCC = "powerpc-linux-gnu-gcc"
pytestmark = needs_binutils

# a table of faults, so that it is known where control goes unseen
_FAULTS = """
    .section __ex_table, "a"
    .long callee - ., callee + 4 - .
    .text
"""
_FUNCTION = """
    .text
    .globl {0}
    .type {0}, @function
{0}:
{1}
    .size {0}, . - {0}
"""
_CALLEE = _FUNCTION.format("callee", "    add r3, r3, r5\n    li r6, 0\n    li r11, 0\n    mtctr r6\n    blr")
_CALLER = """
    stwu r1, -16(r1)
    mflr r0
    stw r0, 20(r1)
    stw r31, 12(r1)
    mr r31, r4
{0}
    add r3, r3, r31
    lwz r31, 12(r1)
    lwz r0, 20(r1)
    mtlr r0
    addi r1, r1, 16
    blr
"""


def _program(*functions: tuple[str, str]) -> str:
    return (
        ".globl _start\n_start:\n"
        + "".join(_FUNCTION.format(*function) for function in functions)
        + _CALLEE
        + _FAULTS
    )


_JUMP_LABEL = (
    _program(
        (
            "f",
            "    li r6, 1\nhit: {0}\n    li r7, 0\n    mr. r3, r6\n    bgelr\n    li r8, 0\n"
            "there: add r3, r7, r8\n    blr",
        )
    )
    + '.section __jump_table, "a"\n.long hit - ., there - ., key - .\n.data\nkey: .long 0, 0\n'
)
_STATIC_CALL_SITE = (
    _program(("f", _CALLER.format("    li r6, 1\nhit: {0}\n    mr r10, r6")))
    + '.section .static_call_sites, "a"\n.long hit - ., key - .\n.data\nkey: .long 0, 0\n'
)
_TRAMPOLINE = _program(
    ("f", _CALLER.format("    li r9, 1\n    bl __SCT__one\n    mr r10, r4")),
    (
        "__SCT__one",
        "{0}\n    lis r12, 2f@ha\n    lwz r12, 2f@l(r12)\n    mtctr r12\n    bctr\n"
        "    li r3, 0\n    blr\n2: .long 0",
    ),
)
_FEATURE = (
    _program(
        ("f", "    li r7, 1\nhit: {0}\nafter: add r3, r7, r8\n    blr"),
        ("g", "    nop\nother: add r8, r9, r10\n    li r7, 3\nbehind: blr"),
    )
    + '.section __ftr_fixup, "a"\n1: .long 1, 1, hit - 1b, after - 1b, other - 1b, behind - 1b\n'
)
_FLUSH = (
    _program(("f", "    li r7, 1\nhit: {0}\nafter: add r3, r7, r8\n    blr"))
    + '.section .init.data, "a"\n__start__btb_flush_fixup:\n1: .long hit - 1b, after - 1b\n'
    "__stop__btb_flush_fixup:\n"
)
_PATCH_SITE = (
    _program(
        ("f", "    li r7, 1\nhit: {0}\n    li r8, 0\n    mr r3, r7\n    blr\nthere: add r3, r8, r9\n    blr")
    )
    + ".section .rodata\npatch__one: .long hit - .\n"
)
_KINDS = {
    "jump label": (_JUMP_LABEL, ("nop", "b there")),
    "static call": (_STATIC_CALL_SITE, ("nop", "bl callee")),
    "trampoline": (_TRAMPOLINE, ("b callee", "blr", "b .+20")),
    "feature section": (
        _FEATURE,
        ("li r7, 2\n    li r8, 0", "nop\n    nop", "add r8, r9, r10\n    li r7, 3"),
    ),
    "flush": (_FLUSH, ("li r7, 2\n    li r8, 0", "nop\n    nop")),
}


def _live(image: Image) -> dict[int, set[str]]:
    """Return what is live before all instructions that control comes to."""
    found, judge = {}, site_checker_of_linux(image)
    for function in image.functions:
        for address in range(function.address, function.end, 4):
            try:
                found[address] = set(judge.live(address).live)
            except Refused:
                continue
    return found


def _lost(here: Image, there: Image) -> list[tuple[str, list[str]]]:
    """Return what is live in another form of the program and not in this one, by place."""
    ours, others = _live(here), _live(there)
    callee = here.function_at(here.lookup("callee"))  # of which other callers are in sight
    assert callee is not None
    pairs = ((at, sorted(others[at] - ours[at])) for at in ours.keys() & others.keys() if at not in callee)
    return [(here.symbolize(at), missing) for at, missing in pairs if missing]


@pytest.mark.parametrize("faults", [True, False])
@pytest.mark.parametrize("kind", _KINDS)
def test_other_forms(tmp_path: Path, kind: str, faults: bool) -> None:
    """Whether or not the file says where control goes on after a fault."""
    source, forms = _KINDS[kind]
    source = source if faults else source.replace(_FAULTS, ".text\n")
    images = []
    for number, form in enumerate(forms):
        (tmp_path / str(number)).mkdir()
        images.append(put_together(tmp_path / str(number), source.replace("{0}", form)))
    for here in images:
        for there in images:
            assert _lost(here, there) == []
    # where control comes in one form, it does in the others
    assert len({frozenset(_live(image)) for image in images}) == 1


def test_patch_sites(tmp_path: Path) -> None:
    """A branch may become a nop; what a nop becomes nobody knows."""
    judges = []
    for form in ("b there", "nop"):
        image = put_together(tmp_path, _PATCH_SITE.replace("{0}", form))
        judges.append(_live(image)[image.lookup("hit")])
    assert {"r7", "r8", "r9"} <= judges[0]
    assert {f"r{n}" for n in range(32)} | {"ctr", "lr", "cr0", "cr7", "ca"} <= judges[1]


# what gcc's profiling calls: it is given LR in r0 and where it is called from in LR
_TRACER = """
    stwu r1, -64(r1)
    stw r0, 8(r1)
    mflr r0
    stw r0, 68(r1)
{0}
    mr r3, r0
    lwz r4, 8(r1)
    bl callee
{1}
    lwz r0, 68(r1)
    mtlr r0
    lwz r0, 8(r1)
    addi r1, r1, 64
    blr
"""
_SOURCE = """
extern volatile int shared;
int leaf(int a, int b) { return a + b; }
long long wide(long long a, long long b) { return a * b + shared; }
int calls(int a, int *b) { shared = a; return leaf(*b, a) + leaf(a, shared); }
int many(int a, int b, int c, int d, int e, int f, int g, int h)
{ return calls(a, &b) + c * d + e * f + g * h; }
void stores(int *p, int n) { while (n--) *p++ = shared; }
"""


def _traced(directory: Path, level: str, *, on: bool) -> Image:
    """Return a program of gcc's with entries for tracing, as the kernel has them while it traces or not."""
    directory.mkdir()
    command = [
        _GCC,
        "-S",
        "-pg",
        level,
        "-ffreestanding",
        "-mno-sdata",
        "-mmultiple",
        "-o",
        "-",
        "-x",
        "c",
        "-",
    ]
    text = subprocess.run(command, input=_SOURCE, text=True, check=True, capture_output=True).stdout
    lines, number = [], 0
    for line in text.splitlines():
        if line.split()[:1] == ["bl"] and "_mcount" in line:
            lines += [f"hit{number}:", "bl _mcount" if on else "nop"]
            lines += [f'.section __mcount_loc, "a"\n.long hit{number}\n.previous']
            number += 1
        else:
            lines.append(line)
    assert number == 5
    saves = "".join(f"    stw r{n}, {8 + 4 * n - 4}(r1)\n" for n in range(3, 11))
    tracer = _FUNCTION.format("_mcount", _TRACER.format(saves, saves.replace("stw", "lwz")))
    source = "\n".join(lines) + tracer + _program() + ".data\n.globl shared\nshared: .long 0\n"
    return put_together(directory, source)


@pytest.mark.skipif(shutil.which(_GCC) is None, reason=f"{_GCC} is not installed")
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2"])
def test_ftrace_entries(tmp_path: Path, level: str) -> None:
    on, off = (_traced(tmp_path / str(state), level, on=state) for state in (True, False))
    assert _lost(off, on) == []
    live = _live(off)
    given = {"r0", "r1", "lr", *(f"r{n}" for n in range(3, 11))}  # by no name it is known what is called
    for number in range(5):
        assert given <= live[off.lookup(f"hit{number}")]
