"""A Linux keeps room in its text for its kprobes' code: what it puts there is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.kernel import offline
from kgdbpatch.patch.rewritten import DETOUR
from kgdbpatch.personality.linux.rewritten import rewritten

from .elf import needs_binutils, put_together

pytestmark = needs_binutils

SOURCE = """
    .text
    .globl _start, optinsn_slot, optprobe_template_entry
    .type _start, @function
_start: li r3, 0
    blr
    .size _start, . - _start
optinsn_slot: nop
    .space 60
optprobe_template_entry: stwu r1, -16(r1)
    blr
    .section __ex_table, "a"
    .long 0, 0
"""


def test_whatever_is_there_the_kernel_has_put(tmp_path: Path) -> None:
    image = put_together(tmp_path, SOURCE)
    start, end = image.lookup("optinsn_slot"), image.lookup("optprobe_template_entry")
    found = {at: what for at, what in rewritten(image).items() if what.kind == DETOUR}
    assert set(found) == set(range(start, end, 4))
    for word in (0, encode.nop(), 0x1234_5678):  # code, or an address of its structures
        assert found[start].may_hold(start, word)
    assert "kprobe at optinsn_slot" in found[start].change(start, encode.nop(), image.symbolize)
    with pytest.raises(Refused):
        offline.site_checker(image).site(start)


def test_a_kernel_without_them_has_none(tmp_path: Path) -> None:
    image = put_together(tmp_path, SOURCE.replace("optprobe_template_entry", "another"))
    assert rewritten(image) == {}
