"""Whether a word of a running Linux's text is there for a kprobe of the kernel's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kgdbpatch.image import Image, Section, Segment, Symbol
from kgdbpatch.image.contents import Contents
from kgdbpatch.isa import encode
from kgdbpatch.patch.rewritten import DETOUR, PROBED, Rewritten
from kgdbpatch.personality.base import MemoryPlan
from kgdbpatch.personality.linux import Linux

TEXT, SLOTS, TABLE = 0xC000_0000, 0xC000_0100, 0xC000_1000
PROBE, OTHER = 0xC000_2000, 0xC000_3000  # structures of the kernel's
PROBED_AT, SITE = TEXT + 0x20, TEXT + 0x24
TRAP = 0x7FE0_0008


@pytest.fixture
def image() -> Image:
    text = Section(".text", TEXT, 0x200, bytes(0x200), True, False)
    data = Section(".bss", TABLE, 0x100, bytes(0x100), False, True)
    symbols = [
        Symbol("traced", TEXT, 0x100, ".text", "function"),
        Symbol("optinsn_slot", SLOTS, 0, ".text", "label"),
        Symbol("optprobe_template_entry", SLOTS + 0x80, 0, ".text", "label"),
        Symbol("kprobe_table", TABLE, 0x100, ".bss", "object"),
    ]
    segment = Segment("", TEXT, 0x4000, b"", 0, 0)
    return Image(Path("vmlinux"), "elf", "", Contents(TEXT, (text, data), (segment,), symbols))


def probed(image: Image, address: int, word: int, memory: dict[int, int]) -> bool:
    def read(physical: int, size: int) -> bytes:
        places = range(physical, physical + size, 4)
        return b"".join(memory.get(TEXT + at, 0).to_bytes(4, "big") for at in places)

    return Linux(MemoryPlan(32, 16)).is_probed(image, read, address, word)


def test_a_trap_is_a_probe_where_the_kernel_lists_one(image: Image) -> None:
    memory = {TABLE + 0x40: OTHER, OTHER: PROBE, OTHER + 20: TEXT + 0x60, PROBE + 20: PROBED_AT}
    assert probed(image, PROBED_AT, TRAP, memory)
    assert not probed(image, PROBED_AT, encode.nop(), memory)
    assert not probed(image, SITE, TRAP, memory)
    assert not probed(image, PROBED_AT, TRAP, {TABLE + 0x40: OTHER, OTHER: OTHER})  # and no end of the list


def test_a_branch_to_a_probes_code_is_one(image: Image) -> None:
    for target, expected in ((SLOTS, True), (SLOTS + 0x7C, True), (SLOTS + 0x80, False), (TEXT, False)):
        assert probed(image, SITE, encode.b(SITE, target), {}) is expected
    assert not probed(image, SITE, encode.b(SITE, SLOTS) | 1, {})


def test_that_code_is_the_kernels_to_write(image: Image) -> None:
    found = Linux(MemoryPlan(32, 16)).rewritten(image)
    assert {at for at, what in found.items() if what.kind == DETOUR} == {*range(SLOTS, SLOTS + 0x80, 4)}
    assert found[SLOTS].may_hold(SLOTS, 0x1234_5678)
    assert "a kprobe at there" in Rewritten(PROBED).change(SITE, TRAP, lambda _: "there")
