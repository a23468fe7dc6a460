"""A function that begins with room for its kernel's tracer is patched behind that, if that means the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import offline
from kgdbpatch.patch.request import PatchRequest

from .elf import needs_binutils, put_together

pytestmark = needs_binutils

# Room for two instructions, as gcc leaves it with -fpatchable-function-entry=2; an old kernel's call.
OFF, UP, ON = "nop\n    nop", "mflr r0\n    nop", "mflr r0\n    bl _mcount"
OLD = "mflr r0\n    stw r0, 4(r1)\n    bl _mcount"
PLAIN = """
    addi r3, r3, 1
    cmpwi r3, 7
    beq 1f
    addi r3, r3, 2
1:  blr
"""
LOOP = """
1:  addi r3, r3, 1
    cmpwi r3, 7
    bne 1b
    blr
"""
TABLE = """
2:  lis r9, table@ha
    addi r9, r9, table@l
    cmplwi r3, 2
    bgt 1f
    slwi r3, r3, 2
    lwzx r9, r9, r3
    mtctr r9
    bctr
1:  blr
3:  li r3, 9
    b 2b
"""
ROWS = "table: .long 2b, 1b, 3b\n"


def image_of(directory: Path, *functions: tuple[str, str], rows: str = "") -> Image:
    """Return a Linux's image of functions, each of what it begins with and its body."""
    text, calls, entries = "", "", ""
    for number, (head, body) in enumerate(functions):
        name, traced = f"made{number}", f"made{number} + {8 if head == OLD else 0}"
        text += (
            f".globl {name}\n.type {name}, @function\n{name}:\n    {head}\n{body}.size {name}, . - {name}\n"
        )
        if rows:
            text += f'.section .rodata, "a"\n{rows}.text\n'
        calls += f"    bl {name}\n"
        entries += f"    .long {traced}\n"
    source = f""".text
    .globl _start
    .type _start, @function
_start: mflr r31
{calls}    mtlr r31
    blr
    .size _start, . - _start
{text}
    .globl _mcount
    .type _mcount, @function
_mcount: mtlr r0
    bctr
    .size _mcount, . - _mcount
    .section __patchable_function_entries, "a"
{entries}
    .section __ex_table, "a"
    .long 0, 0
"""
    path = put_together(directory, source, "-N").path
    low = ["--change-section-lma", "*-0xc0000000"]  # a linear map, below which patches are in reach
    subprocess.run(["powerpc-linux-gnu-objcopy", *low, path, directory / "low"], check=True)
    return Image.load(directory / "low")


@pytest.mark.parametrize("head", [OFF, UP, ON])
@pytest.mark.parametrize("many", [False, True])
def test_the_first_instruction_is_the_one_behind(tmp_path: Path, head: str, many: bool) -> None:
    """Asked for the function, not for a word of it."""
    image = image_of(tmp_path, (OFF, PLAIN), (head, PLAIN))
    planner, wanted = offline.planner(image), [image.lookup("made0"), image.lookup("made1")]
    payload = planner.payload(PatchRequest(count=True))
    if many:
        planned, refused = planner.plan_sites((at, payload) for at in wanted)
        assert not refused
    else:
        planned = [planner.plan_site(at, payload) for at in wanted]
    assert [plan.site for _, plan in planned] == [at + 8 for at in wanted]


def test_who_asks_for_both_gets_each_by_itself(tmp_path: Path) -> None:
    """In either order."""
    image = image_of(tmp_path, (OFF, PLAIN))
    planner, first = offline.planner(image), image.lookup("made0")
    payload = planner.payload(PatchRequest(count=True))
    for wanted in ([first, first + 8], [first + 8, first]):
        planned, refused = planner.plan_sites((at, payload) for at in wanted)
        assert [plan.site for _, plan in planned] == [first + 8]
        assert [(one.rule, one.address) for one in refused] == [("rewritten", first)]


def test_what_is_there_is_asked_for_by_its_own_address(tmp_path: Path) -> None:
    image = image_of(tmp_path, (OFF, PLAIN))
    planner, first = offline.planner(image), image.lookup("made0")
    with pytest.raises(Refused) as refused:
        planner.plan_site(first + 4, planner.payload(PatchRequest(count=True)))
    assert refused.value.rule == "rewritten"
    forcing = offline.planner(image, force=True)
    _, plan = forcing.plan_site(first, forcing.payload(PatchRequest(count=True)))
    assert plan.site == first


@pytest.mark.parametrize(("body", "rows"), [(LOOP, ""), (TABLE, ROWS)], ids=["branch", "table"])
def test_what_runs_more_often_than_the_function_is_called(tmp_path: Path, body: str, rows: str) -> None:
    image = image_of(tmp_path, (OFF, body), rows=rows)
    found = offline.checker(image, count=True).check(image.lookup("made0"))
    assert (found.ok, found.rule) == (False, "rewritten")


def test_an_entry_that_the_kernel_leaves_alone_stays(tmp_path: Path) -> None:
    """Older kernels call their tracer further behind."""
    image = image_of(tmp_path, (OLD, PLAIN))
    found = offline.checker(image, count=True).check(image.lookup("made0"))
    assert (found.ok, found.site) == (True, image.lookup("made0"))


def test_the_answer_is_of_the_site_itself(tmp_path: Path) -> None:
    image = image_of(tmp_path, (OFF, PLAIN))
    found = offline.checker(image, count=True).check(image.lookup("made0"))
    assert (found.ok, found.site, found.symbol) == (True, image.lookup("made0") + 8, "made0+0x8")
