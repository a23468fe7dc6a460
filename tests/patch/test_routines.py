"""Code that runs on from one function into the next: what is the matter there is seen across symbols."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.analysis.routines import runs_on
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import offline
from kgdbpatch.patch.site_checker import SiteChecker

from .elf import needs_binutils, put_together

pytestmark = needs_binutils

FUNCTION = " .type {name}, @function\n{name}: {body}\n .size {name}, . - {name}\n"


def image(place: Path, **functions: str) -> Image:
    text = "".join(FUNCTION.format(name=name, body=body) for name, body in functions.items())
    return put_together(place, f" .text\n .globl _start\n_start:\n blr\n{text}")


RESTORE = "lwz 7,144(1)\n lwz 8,148(1)\n lwz 4,160(1)\n mtlr 4\n lwz 4,16(1)"
LEAVE = "mtsrr0 7\n mtsrr1 8\n lwz 7,28(9)\n rfi"


def rules(judge: SiteChecker, site: int) -> str:
    try:
        found = judge.site(site)
    except Refused as error:
        return error.rule
    return f"stack {found.stack} returning {found.returning}"


@pytest.mark.parametrize("bulk", [False, True])
def test_the_interrupted_stack_is_none_behind_a_symbol_either(tmp_path: Path, bulk: bool) -> None:
    whole = image(tmp_path, leave=f"{RESTORE}\n lwz 1,20(1)\n {LEAVE}")
    parts = image(tmp_path, restore=f"{RESTORE}\n lwz 1,20(1)", leave=LEAVE)
    split = image(tmp_path, restore=f"{RESTORE}\n lwz 1,20(1)", leave="mtsrr0 7", then="mtsrr1 8", done="rfi")
    assert whole.code_sections()[0].size == parts.code_sections()[0].size
    for kernel in (parts, split):
        judge, other = offline.site_checker(kernel), offline.site_checker(whole)
        section = kernel.code_sections()[0]
        with judge.in_bulk() if bulk else nullcontext():
            for site in range(section.address + 4, section.end, 4):
                same = site >= whole.lookup("leave")
                assert not same or rules(judge, site) == rules(other, site), hex(site)
    assert "stack False" in rules(offline.site_checker(parts), parts.lookup("leave"))


def test_a_reservation_is_held_behind_a_symbol(tmp_path: Path) -> None:
    kernel = image(tmp_path, first="1: lwarx 5,0,3", second="addi 5,5,1", third="stwcx. 5,0,3\n bne 1b\n blr")
    judge = offline.site_checker(kernel)
    assert rules(judge, kernel.lookup("second")) == "reservation"
    assert rules(judge, kernel.lookup("third")) == "reservation"


def test_what_does_not_run_on_is_another_routine(tmp_path: Path) -> None:
    kernel = image(tmp_path, first="lwz 1,20(1)\n rfi\n nop", second="mr 3,4\n blr")
    assert rules(offline.site_checker(kernel), kernel.lookup("second")) == "stack True returning False"


@pytest.mark.parametrize(
    ("word", "runs"),
    [
        (0x6000_0000, True),  # nop
        (0x4E80_0020, False),  # blr
        (0x4C82_0020, True),  # bnelr
        (0x4800_0010, False),  # b
        (0x4182_0010, True),  # beq
        (0x4800_0011, False),  # bl
        (0x4C00_0064, False),  # rfi
        (0x7FE0_0008, False),  # trap
        (0x0F03_0000, True),  # twnei r3,0
        (0x4E80_0420, False),  # bctr
        (0x3860_0000, True),  # li r3,0
        (0x0000_0000, False),  # no instruction
    ],
)
def test_what_runs_on(word: int, runs: bool) -> None:
    for padding in ([], [0x6000_0000], [0x6000_0000] * 3):
        assert runs_on(np.array([0x3860_0000, word, *padding], np.uint32)) is runs


def test_all_nops_run_on() -> None:
    assert runs_on(np.array([0x6000_0000], np.uint32))
