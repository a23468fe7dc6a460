"""Labels in tables that change, data behind calls of many shapes, and reservations over symbols."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import offline

from .code import needs_as
from .marked import function, wrong_marks

pytestmark = needs_as

FRAME = "stwu r1,-32(r1)\n mflr r0\n stw r0,36(r1)\n"
LEAVE = "lwz r0,36(r1)\n mtlr r0\n addi r1,r1,32\n blr\n"
TABLE = "lis r9,tab@ha\n addi r9,r9,tab@l\n"


def test_a_computed_goto_of_which_all_labels_are_reached_otherwise(tmp_path: Path) -> None:
    code = f"cmplwi r3,2\n li r0,7\n cmpwi cr5,r4,3\n {TABLE} slwi r3,r3,2\n lwzx r9,r9,r3\n mtctr r9\n"
    code += " beq 1f\n bgt 2f\n@live r0 cr5\n bctr\n1: add r4,r4,r0\n2: beq cr5,3f\n addi r4,r4,1\n"
    source = function("f", code + "3: mr r3,r4\n blr") + ".section .rodata\ntab: .long 1b,2b,3b\n"
    assert wrong_marks(source, tmp_path) == []


LABEL = {
    "lis, addi": "lis r10,5f@ha\n addi r10,r10,5f@l\n",
    "li, addis": "li r10,5f@l\n addis r10,r10,5f@ha\n",
}


@pytest.mark.parametrize("label", LABEL.values(), ids=LABEL)
def test_a_table_to_which_a_label_is_added(label: str, tmp_path: Path) -> None:
    code = f"{TABLE} li r0,7\n cmpwi r5,0\n beq 6f\n {label} stw r10,0(r9)\n6: rlwinm r3,r4,2,29,29\n"
    code += (
        " lwzx r10,r9,r3\n mtctr r10\n@live r0\n bctr\n1: li r3,1\n blr\n2: li r3,2\n blr\n5: mr r3,r0\n blr"
    )
    assert wrong_marks(function("f", code) + ".data\ntab: .long 1b,2b\n", tmp_path) == []


def test_a_table_to_which_nothing_is_added_is_resolved(tmp_path: Path) -> None:
    code = f"{TABLE} li r0,7\n rlwinm r3,r4,2,29,29\n lwzx r10,r9,r3\n mtctr r10\n@free r0 r5 r6\n bctr\n"
    source = function("f", f"{code}1: li r3,1\n blr\n2: li r3,2\n blr") + ".data\ntab: .long 1b,2b\n"
    assert wrong_marks(source, tmp_path) == []


CHANGING = """
int f(int n, int x, int set) {
    static void *tab[2] = { &&a, &&b };
    int l = x + n, m = x ^ n, k = x * 7;
    if (set) tab[set & 1] = &&c;
    goto *tab[n & 1];
a:  return x + 1;
b:  return x * 2;
c:  return k ^ l * m;
}
int _start(int a, int b, int c) { return f(a, b, c) + f(b, a, c); }
"""


@pytest.mark.skipif(shutil.which("clang") is None, reason="clang is not installed")
@pytest.mark.parametrize("level", ["-O1", "-O3"])
def test_what_clang_makes_of_such_a_table(level: str, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text(CHANGING)
    flags = ("--target=powerpc-linux-gnu", level, "-fno-pic", "-fno-inline", "-mcpu=750", "-c")
    subprocess.run(["clang", *flags, "-o", "x.o", "x.c"], cwd=tmp_path, check=True)
    linked = ("-melf32ppc", "-Ttext=0xc0001000", "-o", "x.elf", "x.o")
    subprocess.run(["powerpc-linux-gnu-ld", *linked], cwd=tmp_path, check=True)
    image = Image.load(tmp_path / "x.elf")
    site_checker, f = offline.site_checker(image), image.function_at(image.lookup("f"))
    assert f is not None
    (jump,) = (at for at in range(f.address, f.end, 4) if site_checker.instruction(at).text == "bctr")
    assert not {"r3", "r4"} & set(site_checker.live(jump).free)


PUTS = function("puts", "lbz r4,0(r3)\n stb r4,0(r5)\n blr")
SKIPS = "mflr r0\n stwu r1,-16(r1)\n stw r0,20(r1)\n mr r3,r0\n bl puts\n lwz r9,20(r1)\n addi r9,r9,8\n"
SKIPS = function("print", f"{SKIPS} mtlr r9\n addi r1,r1,16\n blr")
COMES_BACK = "mflr r0\n stwu r1,-16(r1)\n stw r0,20(r1)\n mtlr r3\n blrl\n lwz r0,20(r1)\n mtlr r0\n"
COMES_BACK = function("print", f"{COMES_BACK} addi r1,r1,16\n blr")
TWO = "@data\n .long 0x38600001\n@data\n .long 0x7c832214\n"
NUMBER = "lis r9,die@ha\n addi r9,r9,die@l\n mtctr r9\n"
DIE = function("die", "stw r3,0(r4)\n1: b 1b")
INLINE = {
    "the callee keeps LR in its frame": function("f", f"{FRAME}@code\n bl print\n{TWO} {LEAVE}")
    + SKIPS
    + PUTS,
    "the caller keeps it in its frame": function(
        "f",
        f"{FRAME} bl 1f\n{TWO}1: mflr r3\n stw r3,8(r1)\n bl puts\n lwz r4,8(r1)\n lwz r3,0(r4)\n {LEAVE}",
    )
    + PUTS,
    "what comes back is a call": function("f", f"{FRAME} bl print\n@code\n li r3,1\n@code\n{LEAVE}")
    + COMES_BACK,
    "a long call that never comes back": function("f", f"{FRAME} {NUMBER} bctrl\n{TWO}") + DIE,
    "a stub to what never comes back": function("f", f"{FRAME} bl stub\n{TWO}")
    + function("stub", f"{NUMBER} bctr")
    + DIE,
}


@pytest.mark.parametrize("source", INLINE.values(), ids=INLINE)
def test_data_behind_calls(source: str, tmp_path: Path) -> None:
    assert wrong_marks(source, tmp_path) == []


def test_a_table_is_no_function_of_a_stripped_kernel(tmp_path: Path) -> None:
    """Its address is made, nothing runs into it, and addresses from 0xc0000000 on decode as loads."""
    code = "cmplwi r3,2\n bgt 9f\n lis r9,1f@ha\n addi r9,r9,1f@l\n slwi r4,r3,2\n lwzx r9,r9,r4\n mtctr r9\n"
    code += (
        " bctr\n@data\n1: .long 4f\n@data\n .long 5f\n@data\n .long 6f\n4: li r3,1\n blr\n5: li r3,2\n blr\n"
    )
    assert (
        wrong_marks(function("f", f"{code}6: li r3,3\n blr\n9: li r3,0\n blr"), tmp_path, stripped=True) == []
    )


def test_a_symbol_between_lwarx_and_stwcx(tmp_path: Path) -> None:
    middle = "@data\n addi r5,r5,1\n@data\n stwcx. r5,0,r3\n@code\n bne- f\n blr"
    drops = function("drops", "@code\n li r3,0\n@code\n stwcx. r0,0,r1\n blr")
    source = function("f", "lwarx r5,0,r3") + function("middle", middle) + drops
    assert wrong_marks(source, tmp_path) == []
