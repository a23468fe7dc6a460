"""Words that the kernel rewrites itself are no sites; the assembler's labels say which they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import remembered
from kgdbpatch.kernel.remembered import off_limits
from kgdbpatch.patch.site_checker import SiteChecker
from kgdbpatch.personality import personality
from kgdbpatch.personality.linux.rewritten import rewritten, rewritten_edges

from .elf import needs_binutils, put_together

pytestmark = needs_binutils

FUNCTION = """
    .text
    .globl _start, {name}
    .type {name}, @function
_start:
{name}:
{body}
    .size {name}, . - {name}
"""
# how a table tells of a place: by its address, or by its distance from there (or from another label)
WAYS = {"absolute": "{0}", "relative": "{0} - {1}"}


def site_checker(image: Image) -> SiteChecker:
    def words(address: int, count: int) -> np.ndarray:
        return np.frombuffer(image.read(address, 4 * count), ">u4").astype(np.uint32)

    return SiteChecker(image, off_limits(personality("linux"), image), words, remembered.liveness_index)


def marked(image: Image) -> set[int]:
    """Return where the source's labels say that the kernel writes."""
    return {symbol.address for symbol in image.symbols if symbol.name.startswith("hit")}


def refused(image: Image) -> set[int]:
    judge, found = site_checker(image), set()
    for function in image.functions:
        for address in range(function.address, function.end, 4):
            try:
                judge.site(address)
            except Refused as no:
                if no.rule == "rewritten":
                    found.add(address)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("merged", [False, True])
def test_jump_labels(tmp_path: Path, way: str, merged: bool) -> None:
    """Code, target and key of each entry; in a section of their own or between two symbols."""
    entry = WAYS[way]
    body = """
    cmpwi r3, 0
hit1: nop
    addi r3, r3, 1
    beq 2f
hit2: b 1f
1:  addi r3, r3, 2
2:  blr
"""
    name = ".rodata" if merged else "__jump_table"
    rows = "".join(
        f"1: .long {entry.format(code, '.')}\n.long {entry.format(target, '.')}\n"
        f".long {entry.format(f'(a_key + {flag})', '.')}\n"
        for code, target, flag in (("hit1", "there", 0), ("hit2", "here", 1))
    )
    image = put_together(
        tmp_path,
        FUNCTION.format(
            name="f", body=body.replace("1:  addi", "here: 1:  addi").replace("2:  blr", "there: 2: blr")
        )
        + f'.section {name}, "a"\n__start___jump_table:\n{rows}__stop___jump_table:\n'
        ".data\n.globl a_key\n.type a_key, @object\n.size a_key, 8\na_key: .long 0, 0\n",
    )
    assert refused(image) == marked(image)
    first, second = sorted(marked(image))
    assert {word.name for word in rewritten(image).values()} == {"a_key"}
    here, there = image.lookup("here"), image.lookup("there")
    assert rewritten_edges(image) == {first: (first + 4, there), second: tuple(sorted({second + 4, here}))}


TRAMPOLINE = """
    .balign 32
    .globl __SCT__{0}
    .type __SCT__{0}, @function
__SCT__{0}:
hit_{0}: {1}
    lis r12, 2f@ha
    lwz r12, 2f@l(r12)
    mtctr r12
    bctr
1:  li r3, 0
    blr
hit_{0}_data: 2: .long 0
    .size __SCT__{0}, . - __SCT__{0}
"""


def test_static_calls(tmp_path: Path) -> None:
    source = FUNCTION.format(name="callee", body="    li r3, 1\n    blr")
    source += TRAMPOLINE.format("one", "b callee") + TRAMPOLINE.format("two", "blr")
    source += TRAMPOLINE.format("three", "b .+20")
    image = put_together(tmp_path, source)
    known = marked(image)
    assert set(rewritten(image)) == known
    assert refused(image) == {address for address in known if address % 32 == 0}  # the others are data
    assert {word.name for word in rewritten(image).values()} == {"one", "two", "three"}
    stripped = put_together(tmp_path, source, strip=True)
    assert set(rewritten(stripped)) == known  # by their looks


def test_what_only_looks_like_a_static_call(tmp_path: Path) -> None:
    """The word that is loaded lies elsewhere: nobody rewrites this."""
    lines = ["b 1f", "lis r12, far@ha", "lwz r12, far@l(r12)", "mtctr r12", "bctr", "1: li r3, 0", "blr"]
    source = FUNCTION.format(name="f", body="\n".join(lines))
    image = put_together(tmp_path, source + "\n.data\nfar: .long 0\n")
    assert refused(image) == set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("section", ["__mcount_loc", "__patchable_function_entries", ".init.data"])
def test_ftrace_entries(tmp_path: Path, way: str, section: str) -> None:
    body = """
hit1: nop
hit2: nop
    mflr r0
    stw r0, 4(r1)
hit3: bl _mcount
    bnelr
    .globl _mcount
_mcount: beqlr
hit4: ftrace_call: bl _mcount
    blr
"""
    entry = WAYS[way]
    image = put_together(
        tmp_path,
        FUNCTION.format(name="f", body=body) + f'.section {section}, "a"\n__start_mcount_loc:\n'
        f".long {entry.format('hit1', '.')}\n.long {entry.format('hit3', '.')}\n__stop_mcount_loc:\n",
    )
    assert refused(image) == marked(image)


@pytest.mark.parametrize("table", ["__ftr_fixup", "__mmu_ftr_fixup", "__fw_ftr_fixup"])
@pytest.mark.parametrize("form", ["relative", "absolute", "without alternatives"])
def test_feature_sections(tmp_path: Path, table: str, form: str) -> None:
    """Each entry: mask, value, start, end and the same of its alternative; distances from the entry."""
    body = """
    cmpwi r3, 0
hit1:
hit11: addi r3, r3, 1
hit12: addi r3, r3, 2
after1: addi r4, r4, 3
hit2: sync
after2: blr
"""
    other = "hit3: addi r3, r3, 4\nafter3: nop\n    blr\n"
    rows = ""
    for number, (first, behind, start, end) in enumerate(
        (("hit1", "after1", "hit3", "after3"), ("hit2", "after2", "after3", "after3"))
    ):
        place = (
            (lambda label, n=number: label)
            if form != "relative"
            else (lambda label, n=number: f"{label} - e{n}")
        )
        more = (start, end) if form != "without alternatives" else ()
        words = ", ".join(place(label) for label in (first, behind, *more))
        rows += f"e{number}: .long 0x40, 0x40, {words}\n"
    if form == "without alternatives":
        other = other.replace("hit3", "kept")
    text = FUNCTION.format(name="f", body=body) + FUNCTION.format(name="g", body=other).replace("_start:", "")
    start, stop = (f"__{word}__{table}" for word in ("start_", "stop_"))
    for where in (f'.section {table}, "a"\n', f'.section .init.data, "a"\n{start}:\n'):
        image = put_together(tmp_path, f"{text}{where}{rows}{stop}:\n")
        assert refused(image) == marked(image)


def test_barriers_and_flushes(tmp_path: Path) -> None:
    body = """
    cmpwi r3, 0
hit1: lwsync
    addi r3, r3, 2
hit2: nop
hit3: nop
    addi r3, r3, 4
hit4: ori r31, r31, 0
    addi r3, r3, 5
hit5: lis r4, 1
hit6: mtctr r4
after6: blr
"""
    image = put_together(
        tmp_path,
        FUNCTION.format(name="f", body=body) + '.section __lwsync_fixup, "a"\n.long hit1 - .\n'
        '.section __spec_barrier_fixup, "a"\n__start___barrier_nospec_fixup: .long hit2 - ., hit4 - (. + 0)\n'
        "__stop___barrier_nospec_fixup:\n"
        '.section __spec_btb_flush_fixup, "a"\n__start__btb_flush_fixup:\n1: .long hit5 - 1b, after6 - 1b\n'
        "__stop__btb_flush_fixup:\n",
    )
    assert refused(image) == marked(image)


def test_patch_sites(tmp_path: Path) -> None:
    """A word of data that says where, or a label on the instruction."""
    body = "hit1: lis r3, 0\nhit2: li r4, 0\nhit3: patch__in_code: nop\n    blr\n"
    image = put_together(
        tmp_path,
        FUNCTION.format(name="f", body=body) + ".section .rodata\n.globl patch__one, patch__two\n"
        "patch__one: .long hit1 - .\npatch__two: .long hit2\nother__one: .long 0\n",
    )
    assert refused(image) == marked(image)
    assert {word.name for word in rewritten(image).values()} == {"patch__one", "patch__two", "patch__in_code"}


def test_tables_that_point_nowhere_say_nothing(tmp_path: Path) -> None:
    image = put_together(
        tmp_path,
        FUNCTION.format(name="f", body="    nop\n    nop\n    blr") + '.section __jump_table, "a"\n'
        ".long 3, 5, 7, 0x12345678, 0x77777777, 1, 9\n"
        '.section __ftr_fixup, "a"\n.long 1, 2, 3\n.section __mcount_loc, "a"\n.byte 1, 2\n',
    )
    assert refused(image) == set()


def test_force(tmp_path: Path) -> None:
    source = FUNCTION.format(name="callee", body="    li r3, 1\n    blr") + TRAMPOLINE.format(
        "one", "b callee"
    )
    image = put_together(tmp_path, source)
    with pytest.raises(Refused, match="static call one"):
        site_checker(image).site(image.lookup("__SCT__one"))
    assert site_checker(image).site(image.lookup("__SCT__one"), force=True).forced == ("rewritten",)
