"""Where a Linux on Book E leaves addresses: processes reach up to its linear map, the arena goes above."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from analysis.code import link, needs_as

from kgdbpatch.component.ports import Cpu
from kgdbpatch.cpu.booke import E500, Ppc440
from kgdbpatch.image import Image
from kgdbpatch.personality import MemoryPlan, Personality, personality
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.personality.linux.pages import first_mapped

pytestmark = needs_as
MIB, BASE, TABLE = 1 << 20, 0xC000_0000, 0x10_0000
CONFIG = {"BOOKE": "y", "PTE_64BIT": "y", "TASK_SIZE": "0xc0000000"}
FUNCTIONS = ("module_alloc", "__get_vm_area_caller", "free_vm_area")


def kernel(place: Path, *functions: str, **config: str) -> Image:
    """Make a Linux with a page directory at 64 KiB, configured so, with these functions."""
    held = gzip.compress("".join(f"CONFIG_{name}={value}\n" for name, value in config.items()).encode())
    text = "".join(f" .globl {name}\n .type {name},@function\n{name}: blr\n" for name in functions)
    marked = b"IKCFG_ST" + held + b"IKCFG_ED"
    data = f" .data\n .globl max_pfn\nmax_pfn: .long 0x10000\n .byte {','.join(map(str, marked))}\n"
    script = place / "script"
    script.write_text(
        "SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } . = 0xc0008000;"
        " .data : AT(0x8000) { *(.data) } swapper_pg_dir = 0xc0010000; }"
    )
    return link(text + data, place, "-T", script)


class Ram:
    """The kernel's memory: its data, and page tables of 64-bit entries behind each other."""

    def __init__(self, image: Image) -> None:
        self.words = {image.lookup("max_pfn") - BASE: 256 * MIB >> 12}

    def map(self, address: int, *, page: bool = True) -> None:
        entry = 0x1_0000 + 4 * (address >> 21)
        table = self.words.setdefault(entry, BASE + TABLE + 0x1000 * len(self.words)) - BASE
        if page:
            self.words[table + 8 * (address >> 12 & 511) + 4] = 0x1234_5001

    def read(self, address: int, size: int) -> bytes:
        return b"".join(struct.pack(">I", self.words.get(at, 0)) for at in range(address, address + size, 4))


def linux() -> Personality:
    return personality("linux", MemoryPlan(320, 288))


def chosen(image: Image, ram: Ram) -> ArenaPlan:
    """Return the first arena that is no conflict."""
    system = linux()
    return next(plan for plan in system.arenas(image) if system.arena_conflict(image, ram.read, plan) is None)


def test_the_arena_lies_above_the_linear_map_and_code_where_ba_reaches(tmp_path: Path) -> None:
    image = kernel(tmp_path, *FUNCTIONS, **CONFIG)
    ram, system = Ram(image), linux()
    usual = system.arena(image)
    assert (
        system.arena_conflict(image, ram.read, usual) == "processes reach up to 0xc0000000 (CONFIG_TASK_SIZE)"
    )
    plan = chosen(image, ram)
    assert (plan.virtual, plan.near) == (0xFC00_0000, Window(0xFE00_0000, 0xFF00_0000))
    assert system.must_keep(image, plan)
    assert system.maps_later(image)


@pytest.mark.parametrize("cpu", [E500(), Ppc440()])
@pytest.mark.parametrize("size", [2 * MIB, 4 * MIB])
def test_what_the_kernel_lends_is_mapped_a_second_time(tmp_path: Path, cpu: Cpu, size: int) -> None:
    """Its linear map shows no code there; few entries of the TLB do."""
    image = kernel(tmp_path, *FUNCTIONS, **CONFIG)
    lent = MemoryPlan(256, 256, 20 * MIB, size, elsewhere=True)
    system, ram = personality("linux", lent), Ram(image)
    plans = [plan for plan in system.arenas(image) if system.arena_conflict(image, ram.read, plan) is None]
    assert plans
    assert system.maps_later(image)
    for plan in plans:
        assert (plan.physical, plan.size, plan.linear) == (20 * MIB, size, False)
        assert system.must_keep(image, plan)
        assert plan.near is not None
        assert plan.near.end - plan.near.start <= size // 2
        cpu.check_blocks(plan)


def test_what_the_kernel_has_mapped_there_is_left_alone(tmp_path: Path) -> None:
    image = kernel(tmp_path, *FUNCTIONS, **CONFIG)
    ram = Ram(image)
    ram.map(0xFD00_3000)
    ram.map(0xFA00_0000, page=False)  # a table with nothing in it: it can be told not to use it
    assert chosen(image, ram).virtual == 0xFA00_0000
    ram.map(0xFEC0_0000, page=False)  # here it has slots that it fills without asking
    plan = chosen(image, ram)
    assert plan.near is not None
    assert not plan.near.start <= 0xFEC0_0000 < plan.near.end
    assert plan.near.end - plan.near.start == 8 * MIB


def test_an_address_is_found_by_tables_of_either_width(tmp_path: Path) -> None:
    image = kernel(tmp_path, *FUNCTIONS, **CONFIG)
    ram = Ram(image)
    ram.map(0xFD2F_F000)
    window = Window(0xFD00_0000, 0xFE00_0000)
    assert first_mapped(ram.read, 0x1_0000, BASE, window, exactly=True, wide=True) == 0xFD2F_F000
    assert first_mapped(ram.read, 0x1_0000, BASE, window, exactly=False, wide=True) == 0xFD20_0000


@pytest.mark.parametrize("missing", FUNCTIONS[1:])
def test_a_kernel_that_keeps_nothing_for_others_has_no_such_place(tmp_path: Path, missing: str) -> None:
    """`Reservation` does not take what must be kept and is not."""
    image = kernel(tmp_path, *(name for name in FUNCTIONS if name != missing), **CONFIG)
    system = linux()
    plan = next(plan for plan in system.arenas(image) if plan.virtual > 0xD000_0000)
    assert system.must_keep(image, plan)
    assert system.keep(image, Window(plan.virtual, plan.virtual + plan.size)) is None


def test_a_kernel_that_fills_the_tlb_itself_is_refused_by_name(tmp_path: Path) -> None:
    image = kernel(tmp_path, *FUNCTIONS, "book3e_hugetlb_preload", **CONFIG)
    plan = next(plan for plan in linux().arenas(image) if plan.virtual > 0xD000_0000)
    told = linux().arena_conflict(image, Ram(image).read, plan)
    assert told is not None
    assert "for huge pages (CONFIG_HUGETLBFS)" in told


def test_others_stay_where_they_were(tmp_path: Path) -> None:
    """A kernel of another family with processes up to its linear map has no place, as before."""
    image = kernel(tmp_path, *FUNCTIONS, TASK_SIZE="0xc0000000")
    assert all(plan.virtual <= BASE for plan in linux().arenas(image))
