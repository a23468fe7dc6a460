"""Of a kernel of which nothing but code is known, callers of every function may be elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.kernel import offline

from .elf import needs_binutils, put_together

pytestmark = needs_binutils
_CODE = """
    .globl _start
    .type _start,@function
_start:
    stwu r1,-16(r1)
    mflr r0
    stw r0,20(r1)
    bl f
    li r3,0
    li r4,0
    lwz r0,20(r1)
    mtlr r0
    addi r1,r1,16
    blr
    .size _start,.-_start
    .type f,@function
f:
    addi r3,r3,1
    nop
    blr
    .size f,.-f
"""
_DATA = """
    .data
    .long 0
"""


@pytest.mark.parametrize("data", ["", _DATA])
def test_what_a_function_may_return_is_wanted_by_callers_unseen(tmp_path: Path, data: str) -> None:
    image = put_together(tmp_path, f"{_CODE}{data}")
    live = offline.site_checker(image).live(image.lookup("f") + 4).live
    assert ("r4" in live) == (not data)  # of 64 bits
