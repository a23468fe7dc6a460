"""A Linux whose own page tables alone map patches: where they go, executable, and threads without sizes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from analysis.code import link, needs_as
from component.fake import FakeRam

from kgdbpatch.image import Image
from kgdbpatch.personality import MemoryPlan, personality
from kgdbpatch.personality.base import Window
from kgdbpatch.personality.linux.pages import LinuxPager

pytestmark = needs_as
MIB, BASE = 1 << 20, 0xC000_0000
DIRECTORY, TABLE, SAMPLES, NEW = 0x1_0000, 0x2_0000, 0x2_1000, 0x2_2000  # physical
SAMPLE, WINDOW = 0xC800_0000, Window(0xFE00_0000, 0xFE00_4000)
PRESENT, TEXT, DATA = 0x400, 0x682, 0x582  # of a 405's entries: readable and executable, and writable
CONFIG = {"40x": "y", "TASK_SIZE": "0xc0000000"}
FUNCTIONS = ("module_alloc", "vfree", "__pte_alloc_kernel", "__get_vm_area_caller", "free_vm_area")
MARK, STACK, TASK = 0x57AC_6E9D, 0xC000_A000, 0xC000_C000


def kernel(place: Path) -> Image:
    """Make a Linux of which no symbol has a size."""
    held = gzip.compress("".join(f"CONFIG_{name}={value}\n" for name, value in CONFIG.items()).encode())
    text = "".join(f" .globl {name}\n .type {name},@function\n{name}: blr\n" for name in FUNCTIONS)
    marked = b"IKCFG_ST" + held + b"IKCFG_ED"
    data = f" .data\n .globl max_pfn\nmax_pfn: .long 0x6000\n .byte {','.join(map(str, marked))}\n"
    script = place / "script"
    script.write_text(
        "SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } . = 0xc0008000;"
        " .data : AT(0x8000) { *(.data) } swapper_pg_dir = 0xc0010000;"
        f" init_stack = {STACK:#x}; init_task = {TASK:#x}; behind = {TASK + 0x400:#x}; }}"
    )
    return link(text + data, place, "-T", script)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return kernel(tmp_path)


@pytest.fixture
def ram(image: Image) -> FakeRam:
    """Its RAM: the text by a page table of its own, a page of data that it has allocated, a table for us."""
    made = FakeRam(128 * MIB)
    made.put(image.lookup("max_pfn") - BASE, 96 * MIB >> 12)
    for address, table in ((BASE, TABLE), (SAMPLE, SAMPLES), (WINDOW.start, NEW)):
        made.put(DIRECTORY + 4 * (address >> 22), table | PRESENT)
    made.put(TABLE, TEXT)
    made.put(SAMPLES, 0x40_0000 | DATA)
    return made


def entries(image: Image, ram: FakeRam, *, executed: bool) -> set[int]:
    """Return the bits of what maps the window."""
    pager = LinuxPager.of(image, ram.read, DIRECTORY, BASE)
    assert pager is not None
    ((at, data),) = pager.entries(WINDOW, 0x600_0000, SAMPLE, executed=executed)
    words = [int.from_bytes(data[n : n + 4], "big") for n in range(0, len(data), 4)]
    assert (at, [word & ~0xFFF for word in words]) == (NEW, [0x600_0000 + 4096 * n for n in range(4)])
    return {word & 0xFFF for word in words}


def test_code_is_executable_where_the_text_has_pages(image: Image, ram: FakeRam) -> None:
    assert entries(image, ram, executed=False) == {DATA}
    assert entries(image, ram, executed=True) == {DATA | TEXT}
    ram.put(DIRECTORY + 4 * (BASE >> 22), 0x3E0)  # the first 16 MiB in one piece: no table
    assert entries(image, ram, executed=True) == {DATA}


def test_they_go_above_the_linear_map_and_tables_of_before_are_no_conflict(
    image: Image, ram: FakeRam
) -> None:
    system = personality("linux", MemoryPlan(128, 96))
    plans = list(system.arenas(image))
    first = next(plan for plan in plans if system.arena_conflict(image, ram.read, plan) is None)
    assert first.near == Window(0xFE00_0000, 0xFF00_0000)
    assert (first.virtual, first.size) == (0xFC00_0000, 32 * MIB)
    ram.put(NEW + 4, 0x40_1000 | DATA)
    assert "has mapped 0xfe001000" in (system.arena_conflict(image, ram.read, first) or "")
    lent = personality("linux", MemoryPlan(128, 128, borrowed_at=20 * MIB, borrowed=4 * MIB))
    above = [plan for plan in lent.arenas(image) if plan.near and plan.near.start > BASE]
    assert {(plan.virtual, plan.linear) for plan in above} == {(BASE + 20 * MIB, True)}
    assert {plan.near for plan in above if plan.near} >= {Window(0xFEE0_0000, 0xFF00_0000)}
    assert all(0xFE00_0000 <= plan.near.start < plan.near.end <= 0xFF00_0000 for plan in above if plan.near)


def test_threads_are_known_though_no_symbol_has_a_size(image: Image, ram: FakeRam) -> None:
    ram.put(STACK - BASE, MARK)
    for offset, word in ((84, STACK), (0x200, STACK + 0x1E00), (0x100, TASK + 0x100)):
        ram.put(TASK - BASE + offset, word)
    for n, part in enumerate((b"swap", b"per\0")):
        ram.put(TASK - BASE + 0x300 + 4 * n, int.from_bytes(part, "big"))

    def read(address: int, size: int) -> bytes | None:
        return ram.read(address - BASE, size) if BASE <= address < BASE + 96 * MIB else None

    found = list(personality("linux", MemoryPlan(128, 96)).threads(image, read))
    assert [(one.name, one.stack) for one in found] == [("swapper", Window(STACK, STACK + 0x2000))]
