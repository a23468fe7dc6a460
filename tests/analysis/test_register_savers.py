"""Registers that a routine stores for its caller are live until it has stored them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog, offline

from .code import link, needs_as

pytestmark = needs_as

GCC = "powerpc-linux-gnu-gcc"
ALL = range(14, 32)
# a user of the routines for rN..r31: r5 and r6 are dead, r12 and r0 are not looked at
USER = """
    .globl user
    .type user,@function
user: stwu r1,-112(r1)
    mflr r0
    addi r11,r1,112
    stw r0,116(r1)
    bl save_{n}
{sets}
    bl other
    addi r11,r1,112
    b rest_{n}
    .size user,.-user
    .globl other
    .type other,@function
other: li r3,0
    blr
    .size other,.-other
"""


def _user(n: int) -> str:
    return USER.format(n=n, sets="\n".join(f"    li r{k},{k}" for k in range(n, 32)))


def _label(name: str, n: int, how: str) -> str:
    if how == "overlapping":  # all but the first lie inside the first's size
        return f"{name}_{n}:" if n == 14 else f"    .globl {name}_{n}\n{name}_{n}:"
    return f"    .globl {name}_{n}\n    .type {name}_{n},@function\n{name}_{n}:"


def _ladder(how: str, base: str = "r11", away: int = 0) -> str:
    lines = [f"{_label('save', n, how)} stw r{n},{4 * (n - 32) - away}({base})" for n in ALL]
    lines += ["    blr", "    .size save_14,.-save_14"] if how == "overlapping" else ["    blr"]
    lines += [f"{_label('rest', n, how)} lwz r{n},{4 * (n - 32) - away}({base})" for n in range(14, 31)]
    lines += [f"{_label('rest', 31, how)} lwz r0,4(r11)", f"    lwz r31,{-4 - away}({base})"]
    return "\n".join([*lines, "    mtlr r0", "    mr r1,r11", "    blr"])


def _multiple(n: int) -> str:
    return f"""{_label("save", n, "named")} stmw r{n},{4 * (n - 32)}(r11)
    blr
{_label("rest", n, "named")} lwz r0,4(r11)
    lmw r{n},{4 * (n - 32)}(r11)
    mtlr r0
    mr r1,r11
    blr"""


def _free(image: Image, site: int) -> set[str]:
    return set(offline.site_checker(image).live(site).free)


def _check(image: Image, user: int, n: int) -> None:
    saved = {f"r{k}" for k in range(n, 32)}
    for index in range(5):
        assert not saved & _free(image, user + 4 * index), f"+{4 * index:#x}"
    assert saved <= _free(image, user + 20)  # they are saved, and set next


@pytest.mark.parametrize("n", [14, 15, 20, 29, 30, 31])
@pytest.mark.parametrize("how", ["named", "overlapping", "multiple"])
def test_savers(n: int, how: str, tmp_path: Path) -> None:
    routines = _multiple(n) if how == "multiple" else _ladder(how)
    image = link(routines + _user(n), tmp_path)
    _check(image, image.lookup("user"), n)
    if how != "overlapping" or n == 14:  # what is called in the middle may read anything
        assert {"r7", "r8", "cr0", "cr7"} <= _free(image, image.lookup("user"))


@pytest.mark.parametrize("n", ALL)
def test_savers_without_names(n: int, tmp_path: Path) -> None:
    image = link(_user(n) + _ladder("named"), tmp_path)
    user = image.lookup("user")
    subprocess.run(["powerpc-linux-gnu-strip", tmp_path / "x.elf"], check=True)
    _check(catalog.open_image(str(tmp_path / "x.elf")), user, n)


def test_savers_in_no_function(tmp_path: Path) -> None:
    """The routines' symbols are gone, the others' are there."""
    image = link(_user(28) + _ladder("named"), tmp_path)
    user = image.lookup("user")
    keep = ("-K", "user", "-K", "other", "--strip-unneeded")
    subprocess.run(["powerpc-linux-gnu-strip", *keep, tmp_path / "x.elf"], check=True)
    image = Image.load(tmp_path / "x.elf")
    assert {function.name for function in image.functions} == {"user", "other"}
    assert not {"r28", "r31"} & _free(image, user + 16)


def test_savers_below_the_stack_pointer(tmp_path: Path) -> None:
    """As Darwin's: by r1, into the red zone, before the frame is made."""
    user = """
    .globl user
    .type user,@function
user: mflr r0
    bl save_30
    stw r0,8(r1)
    stwu r1,-64(r1)
    mr r30,r3
    mr r31,r4
    bl other
    addi r1,r1,64
    lwz r0,8(r1)
    add r3,r30,r31
    mtlr r0
    b back
    .size user,.-user
    .globl other
    .type other,@function
other: blr
    .size other,.-other
    .type save_30,@function
save_30: stw r30,-8(r1)
    .type save_31,@function
save_31: stw r31,-4(r1)
    blr
    .type back,@function
back: lwz r30,-8(r1)
    lwz r31,-4(r1)
    blr
"""
    image = link(user, tmp_path)
    at = image.lookup("user")
    assert not {"r30", "r31"} & (_free(image, at) | _free(image, at + 4))
    assert {"r30", "r31"} <= _free(image, at + 8)


READERS = {
    "a buffer": "stw r30,0(r3)\n stmw r31,4(r3)\n blr",
    "a pointer in r11": "lwz r11,0(r3)\n stw r30,8(r11)\n stw r31,4(r11)\n blr",
    "a pointer in r31": "mr r12,r3\n stw r30,8(r12)\n stw r31,4(r12)\n blr",
    "the caller's frame": "stwu r1,-16(r1)\n stw r30,24(r1)\n stw r31,28(r1)\n addi r1,r1,16\n blr",
    "a frame, not to be put back": "stwu r1,-16(r1)\n stw r30,8(r1)\n stw r31,12(r1)\n addi r1,r1,16\n blr",
}


@pytest.mark.parametrize("code", READERS.values(), ids=READERS)
def test_a_store_that_is_no_save_is_a_read(code: str, tmp_path: Path) -> None:
    source = f"""
    .globl user
    .type user,@function
user: stwu r1,-32(r1)
    mflr r0
    stmw r30,24(r1)
    stw r0,36(r1)
    li r30,1
    li r31,2
    bl helper
    lwz r0,36(r1)
    lmw r30,24(r1)
    mtlr r0
    addi r1,r1,32
    blr
    .size user,.-user
    .type helper,@function
helper: {code}
    .size helper,.-helper
"""
    image = link(source, tmp_path)
    assert not {"r30", "r31"} & _free(image, image.lookup("user") + 24)


def test_a_function_that_puts_back_what_it_saved_reads_nothing(tmp_path: Path) -> None:
    helper = (
        "stwu r1,-32(r1)\n stw r30,24(r1)\n stw r31,28(r1)\n mr r30,r3\n lwz r31,0(r4)\n add r3,r30,r31\n"
    )
    helper += " lwz r30,24(r1)\n lwz r31,28(r1)\n addi r1,r1,32\n blr"
    source = f"""
    .globl user
    .type user,@function
user: stwu r1,-32(r1)
    mflr r0
    stmw r30,24(r1)
    stw r0,36(r1)
    bl helper
    lwz r0,36(r1)
    lmw r30,24(r1)
    mtlr r0
    addi r1,r1,32
    blr
    .size user,.-user
    .type helper,@function
helper: {helper}
    .size helper,.-helper
"""
    image = link(source, tmp_path)
    assert {"r30", "r31"} <= _free(image, image.lookup("user") + 16)


def test_fields_of_cr_that_a_routine_stores_are_live(tmp_path: Path) -> None:
    source = """
    .globl user
    .type user,@function
user: stwu r1,-32(r1)
    mflr r0
    addi r11,r1,32
    stw r0,36(r1)
    bl save
    cmpwi cr2,r3,0
    cmpwi cr4,r4,0
    bl other
    lwz r12,-8(r11)
    lwz r0,36(r1)
    mtcrf 0x38,r12
    mtlr r0
    addi r1,r1,32
    blr
    .size user,.-user
    .type save,@function
save: mfcr r12
    stw r12,-8(r11)
    blr
    .type other,@function
other: blr
"""
    image = link(source, tmp_path)
    user = image.lookup("user")
    for index in range(5):
        assert not {"cr2", "cr4"} & _free(image, user + 4 * index)
    assert {"cr2", "cr4"} <= _free(image, user + 20)


def test_floating_point_savers(tmp_path: Path) -> None:
    source = """
    .globl user
    .type user,@function
user: stwu r1,-32(r1)
    mflr r0
    addi r11,r1,32
    stw r0,36(r1)
    bl save_30
    fmr f30,f1
    fmr f31,f2
    fadd f1,f30,f31
    addi r11,r1,32
    b back
    .size user,.-user
    .type save_30,@function
save_30: stfd f30,-16(r11)
save_31: stfd f31,-8(r11)
    blr
    .type back,@function
back: lwz r0,4(r11)
    lfd f30,-16(r11)
    mtlr r0
    lfd f31,-8(r11)
    mr r1,r11
    blr
"""
    image = link(source, tmp_path)
    site_checker, user = offline.site_checker(image), image.lookup("user")
    for index in range(5):
        assert {"f30", "f31"} <= set(site_checker.live(user + 4 * index).live)


PROGRAM = """
int one(int a) {{ return a; }}
int two(int a, int b) {{ return a * b; }}
{attribute} int f(int a, int b, int c, int d, int e) {{
    int s = 0;
    for (int i = 0; i < a; i++) {{ s += two(b, c) + one(d) + e; b++; c += b; d += c; e += d; }}
    return s + b + c + d + e;
}}
int keep(int a, int b) {{ int x = f(a, b, 1, 2, 3); return x + a + b; }}
int _start(void) {{ return keep(1, 2); }}
"""


@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
@pytest.mark.parametrize("options", [("-Os", "-mno-multiple"), ("-Os", "-mno-multiple", "-fno-ipa-ra")])
def test_what_gcc_calls_to_save_registers(options: tuple[str, ...], tmp_path: Path) -> None:
    """What gcc saves out of line is live at the function's start: its caller keeps values there."""
    (tmp_path / "x.c").write_text(PROGRAM.format(attribute="__attribute__((noinline))"))
    flags = (*options, "-mcpu=750", "-msoft-float", "-fno-pic", "-nostartfiles", "-static", "-fno-inline")
    subprocess.run([GCC, *flags, "-o", tmp_path / "x.elf", tmp_path / "x.c"], check=True)
    image = Image.load(tmp_path / "x.elf")
    f = image.lookup("f")
    savers = {image.lookup(f"_savegpr_{n}"): n for n in ALL if image.lookup(f"_savegpr_{n}") is not None}
    site_checker = offline.site_checker(image)
    site = f
    while (target := site_checker.instruction(site).target) not in savers:
        site += 4
    assert target is not None
    first = savers[target]
    for at in range(f, site + 4, 4):
        assert not {f"r{n}" for n in range(first, 32)} & _free(image, at)
