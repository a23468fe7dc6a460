"""Data that stands among code is no site, and code is one: tables, words behind calls, whole programs."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.analysis.reach import Reach
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import analyses, offline
from kgdbpatch.patch.site_checker import SiteChecker

from .code import link, needs_as

pytestmark = needs_as

GCC = "powerpc-linux-gnu-gcc"
CASES = "4: li r3,1\n blr\n5: li r3,2\n blr\n6: li r3,3\n blr\n9: li r3,0\n blr\n"
GUARD = "cmplwi r3,2\n bgt 9f\n slwi r4,r3,2\n"
PLACE = "lis r9,1f@ha\n addi r9,r9,1f@l\n"

# (code, words of data behind it); the data decodes as instructions: lfs, or small distances as illegal words
TABLES = {
    "absolute": f"{GUARD}{PLACE} lwzx r9,r9,r4\n mtctr r9\n bctr\n1: .long 4f,5f,6f\n",
    "absolute, behind the cases": (
        f"{GUARD}{PLACE} lwzx r9,r9,r4\n mtctr r9\n bctr\n{CASES}1: .long 4b,5b,6b\n"
    ),
    "distances": (
        f"{GUARD}{PLACE} lwzx r10,r9,r4\n add r9,r10,r9\n mtctr r9\n bctr\n1: .long 4f-1b,5f-1b,6f-1b\n"
    ),
    "distances from elsewhere": (
        f"{GUARD}{PLACE} lwzx r10,r9,r4\n lis r5,7f@ha\n addi r5,r5,7f@l\n add r9,r10,r5\n mtctr r9\n"
        "7: bctr\n1: .long 4f-7b,5f-7b,6f-7b\n"
    ),
    "Diab's": (
        "cmplwi r3,2\n slwi r11,r3,2\n addis r12,r11,1f@ha\n bgt 9f\n lwz r11,1f@l(r12)\n mtctr r11\n"
        " bctr\n1: .long 4f,5f,6f\n"
    ),
    "Diab's, all in one block": (
        "cmplwi r3,2\n bgt 9f\n slwi r11,r3,2\n addis r11,r11,1f@ha\n lwz r11,1f@l(r11)\n mtctr r11\n"
        " bctr\n1: .long 4f,5f,6f\n"
    ),
}


def _image(body: str, place: Path, more: str = "") -> Image:
    source = f" .globl f\n .type f,@function\nf: {body}\n .size f,.-f\n{more}\n"
    return link(source, place)


def _data(image: Image, name: str = "f") -> list[int]:
    """Return the indices of the words of a function that are refused as data."""
    site_checker, found = offline.site_checker(image), []
    function = image.function_at(image.lookup(name))
    assert function is not None
    for index in range(function.size // 4):
        try:
            site_checker.site(function.address + 4 * index)
        except Refused as refused:
            found += [index] if refused.rule == "data" else []
            with pytest.raises(Refused):
                site_checker.live(function.address + 4 * index)
    return found


@pytest.mark.parametrize("code", TABLES.values(), ids=TABLES)
def test_jump_tables(code: str, tmp_path: Path) -> None:
    image = _image(code if "4:" in code else code + CASES, tmp_path)
    f = image.lookup("f")
    (targets,) = analyses.liveness(image).indirect.tables.values()
    function = image.function_at(f)
    assert function is not None
    size = function.size
    words = struct.unpack(f">{size // 4}I", image.read(f, size))
    assert [words[(target - f) // 4] for target in targets] == [0x38600001, 0x38600002, 0x38600003]
    data = _data(image)
    assert len(data) == 3
    assert data == list(range(data[0], data[0] + 3))
    assert words[data[0] - 1] in (0x4E800420, 0x4E800020)  # behind bctr or blr


@pytest.mark.parametrize("code", ["mtctr r3\n bctr\n", f"{PLACE} lwzx r9,r9,r3\n mtctr r9\n bctr\n1: "])
def test_what_only_an_unresolved_branch_may_lead_to_is_no_site(code: str, tmp_path: Path) -> None:
    image = _image(f"{code} .long 0x7c832214, 0x38600007\n blr", tmp_path)
    assert len(_data(image)) == 3


def test_force_takes_for_code_what_may_be_code_only(tmp_path: Path) -> None:
    """Where an unknown branch may lead; never an entry of a jump table, or what is no instruction."""
    image = _image(" mtctr r3\n bctr\n .long 0x7c832214, 0\n blr", tmp_path)
    site_checker, f = offline.site_checker(image), image.lookup("f")
    with pytest.raises(Refused, match="--force"):
        site_checker.site(f + 8)
    assert site_checker.site(f + 8, force=True).forced == ("data",)
    assert site_checker.site(f, force=True).forced == ()
    with pytest.raises(Refused, match="not an instruction"):
        site_checker.site(f + 12, force=True)
    image = _image(TABLES["absolute"] + CASES, tmp_path)
    site_checker, f = offline.site_checker(image), image.lookup("f")
    for index in _data(image):
        with pytest.raises(Refused, match="jump table"):
            site_checker.site(f + 4 * index, force=True)


def test_a_table_without_a_known_end_ends_where_no_entry_is(tmp_path: Path) -> None:
    code = f"slwi r4,r3,2\n{PLACE} lwzx r9,r9,r4\n mtctr r9\n bctr\n1: .long 4f,5f,6f,9f\n"
    assert _data(_image(code + CASES, tmp_path)) == [6, 7, 8, 9]


# code, and the indices of its words that are data
INLINE = {
    "a pointer by bl": ("mflr r0\n bl 1f\n .long 0x38600001,0x7c832214\n1: mflr r3\n mtlr r0\n blr", [2, 3]),
    "a pointer kept": (
        "stwu r1,-32(r1)\n mflr r0\n stw r31,28(r1)\n stw r0,36(r1)\n bl 1f\n .long 0x38600001\n"
        "1: mflr r31\n bl other\n lwz r3,0(r31)\n lwz r0,36(r1)\n lwz r31,28(r1)\n mtlr r0\n"
        " addi r1,r1,32\n blr",
        [5],
    ),
    "a table of distances by bl": (
        "mflr r0\n slwi r3,r3,2\n bl 1f\n .long 0x38600001\n1: mflr r4\n lwzx r3,r4,r3\n mtlr r0\n blr",
        [3],
    ),
    "a subroutine": (
        "mflr r0\n bl 1f\n addi r3,r3,1\n bl 1f\n mtlr r0\n blr\n1: add r3,r3,r3\n blr",
        [],
    ),
    "a subroutine that calls": (
        "mflr r12\n bl 1f\n addi r3,r3,1\n mtlr r12\n blr\n"
        "1: mflr r0\n stw r0,4(r1)\n bl other\n lwz r0,4(r1)\n mtlr r0\n blr",
        [],
    ),
    "a subroutine that keeps LR": (
        "mflr r12\n bl 1f\n addi r3,r3,1\n mtlr r12\n blr\n1: mflr r11\n bl other\n mtlr r11\n blr",
        # a call may change r11
        [2, 3, 4],
    ),
    "the pc": ("mflr r0\n bcl 20,31,1f\n1: mflr r9\n mtlr r0\n lwz r3,8(r9)\n blr", []),
    "behind a return": ("li r3,1\n blr\n .long 0x38600001", [2]),
    "behind a return, branched to": ("cmpwi r3,0\n beq 1f\n blr\n .long 0x38600001\n1: li r3,1\n blr", [3]),
    "behind a call that never comes back": ("bl never\n .long 0x38600001", [1]),
    "behind a jump": ("b other\n .long 0x38600001", [1]),
    "behind rfi": ("rfi\n .long 0x38600001", [1]),
    "behind blrl by LR as it came": ("blrl\n .long 0x38600001", [1]),
    "behind a call by LR": ("mflr r0\n stw r0,4(r1)\n mtlr r3\n blrl\n lwz r0,4(r1)\n mtlr r0\n blr", []),
    "behind a trap": ("trap\n li r3,1\n blr", []),
    "behind a system call": ("sc\n li r3,1\n blr", []),
    "behind a routine that skips a word": ("mflr r31\n bl skips\n .long 0x38600001\n mtlr r31\n blr", None),
}
OTHERS = """
 .type other,@function
other: addi r3,r3,1
 blr
 .size other,.-other
 .type never,@function
never: stw r3,0(r4)
 b never
 .size never,.-never
 .type skips,@function
skips: mflr r5
 lwz r3,0(r5)
 addi r5,r5,4
 mtlr r5
 blr
 .size skips,.-skips
"""


@pytest.mark.parametrize(("code", "data"), INLINE.values(), ids=INLINE)
def test_data_among_code(code: str, data: list[int] | None, tmp_path: Path) -> None:
    found = _data(_image(code, tmp_path, OTHERS))
    if data is None:
        assert 2 in found
    else:
        assert found == data


def test_a_helper_that_is_blrl_comes_back(tmp_path: Path) -> None:
    code = "mflr r0\n bl slot\n mflr r30\n mtlr r0\n add r3,r7,r8\n blr"
    slot = " .type slot,@function\nslot: blrl\n .long 0\n .size slot,.-slot\n"
    image = _image(code, tmp_path, slot)
    f, site_checker = image.lookup("f"), offline.site_checker(image)
    assert not {"r0", "r7", "r8"} & set(site_checker.live(f + 4).free)
    assert _data(image) == []
    function = image.function_at(f)
    assert function is not None
    assert [
        leaving.kind.value
        for block in analyses.flow(image, function).graph.blocks.values()
        for leaving in block.exits
    ] == ["return"]


def test_what_a_routine_skips_to_may_read_anything(tmp_path: Path) -> None:
    """What comes behind the call is no guide: control goes past the word, which would set r9."""
    code = "mflr r31\n li r9,5\n bl skips\n li r9,1\n mr r3,r9\n mtlr r31\n blr"
    image = _image(code, tmp_path, OTHERS)
    assert "r9" not in offline.site_checker(image).live(image.lookup("f") + 8).free


def test_cfg_shows_tables_as_data(tmp_path: Path) -> None:
    image = _image(TABLES["absolute"] + CASES, tmp_path)
    function = image.function_at(image.lookup("f"))
    assert function is not None
    flow = analyses.flow(image, function)
    data = [block for start, block in flow.graph.blocks.items() if flow.graph.is_data(start)]
    assert [(block.end - block.start, block.successors, block.exits) for block in data] == [(12, (), ())]


def test_an_address_that_memory_holds_tells_of_code_and_data_alike(tmp_path: Path) -> None:
    image = _image("blr\n1: li r3,1\n blr", tmp_path, " .data\n .long 1b\n")
    liveness = analyses.liveness(image)
    assert list(liveness.reach) == [Reach.CODE, Reach.DOUBTFUL]


SWITCHES = """
{functions}
int (*volatile table[])(int) = {{ {names} }};
int _start(void) {{ int s = 0; for (int i = 0; i < {count}; i++) s += table[i](i); return s; }}
"""


def _switch(rng: random.Random, number: int) -> str:
    values = [rng.randrange(1, 1000) for _ in range(rng.randrange(5, 30))]
    cases = "\n".join(
        f"case {n}: return f{number - 1 if number else 0}x(a * {v});" for n, v in enumerate(values)
    )
    return (
        f"__attribute__((noinline)) int f{number}x(int a) {{ return a + {number}; }}\n"
        f"__attribute__((noinline)) int f{number}(int a) {{ switch (a) {{ {cases} default: return -1; }} }}"
    )


@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
@pytest.mark.parametrize(
    "options", [("-O2",), ("-Os", "-mno-multiple"), ("-O2", "-fpic"), ("-O1", "-fno-jump-tables")]
)
def test_all_that_gcc_makes_of_switches_are_sites(options: tuple[str, ...], tmp_path: Path) -> None:
    """Tables stand in sections of their own there: every word of a function is code, nops between aside."""
    rng, count = random.Random(5), 12
    functions = "\n".join(_switch(rng, number) for number in range(count))
    names = ", ".join(f"f{number}" for number in range(count))
    (tmp_path / "x.c").write_text(SWITCHES.format(functions=functions, names=names, count=count))
    flags = (*options, "-nostartfiles", "-static", "-mno-sdata")
    subprocess.run([GCC, *flags, "-o", tmp_path / "x.elf", tmp_path / "x.c"], check=True)
    image = Image.load(tmp_path / "x.elf")
    site_checker = offline.site_checker(image)
    for function in image.functions:
        if re.fullmatch(r"f\d+x?|_start", function.name):
            refused = [
                at for at in range(function.address, function.end, 4) if not _is_site(site_checker, at)
            ]
            assert refused == [], function.name


def _is_site(site_checker: SiteChecker, address: int) -> bool:
    try:
        site_checker.site(address)
    except Refused:
        return False
    return True
