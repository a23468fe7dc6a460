"""What a Linux that carries no configuration tells by its code: where processes end, what page tables are."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from analysis.code import link, needs_as

from kgdbpatch.image import Image
from kgdbpatch.personality import MemoryPlan, personality

pytestmark = needs_as
MIB, BASE = 1 << 20, 0xC000_0000
UNKNOWN = "where processes end is not known: the kernel carries no configuration (CONFIG_IKCONFIG)"
HASH_PAGE = """
 .globl hash_page
hash_page:
 lis {register},{end}@h
 cmplw 4,{register}
 mfsprg 8,3
 lwz 5,8(8)
 blt 1f
 lis 5,({directory})@ha
 addi 5,5,({directory})@l
1: addis 5,5,0x4000
 {index}
 blr
"""
SMALL, WIDE = "rlwimi 5,4,12,20,29", "rlwinm 8,4,13,19,29"


def kernel(
    place: Path,
    end: int = 0xB000_0000,
    index: str = SMALL,
    directory: str = "swapper_pg_dir",
    register: int = 0,
    named: str = "swapper_pg_dir",
    config: str = "",
) -> Image:
    """Make a Linux with a page directory at 64 KiB and 256 MiB of memory; it carries ``config``, if any."""
    code = HASH_PAGE.format(end=end, index=index, directory=directory, register=register)
    names = ("module_alloc", "__get_vm_area_caller", "free_vm_area", "vfree", "__pte_alloc_kernel")
    text = code + "".join(f" .globl {name}\n .type {name},@function\n{name}: blr\n" for name in names)
    script = place / "script"
    script.write_text(
        "SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } . = 0xc0008000;"
        f" .data : AT(0x8000) {{ *(.data) }} {named} = 0xc0010000; }}"
    )
    carried = b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED" if config else b"\0"
    held = f".globl max_pfn\nmax_pfn: .long 0x10000\n .byte {','.join(map(str, carried))}\n"
    return link(f"{text} .data\n {held}", place, "-T", script)


def conflict(image: Image) -> str | None:
    """Return why the usual arena cannot be had where nothing is mapped."""
    words = {image.lookup("max_pfn") - BASE: 256 * MIB >> 12}

    def read(address: int, size: int) -> bytes:
        return b"".join(struct.pack(">I", words.get(at, 0)) for at in range(address, address + size, 4))

    return personality("linux", MemoryPlan(288, 256)).arena_conflict(image, read)


@pytest.mark.parametrize("directory", ["swapper_pg_dir", "swapper_pg_dir - 0xc0000000"])
@pytest.mark.parametrize("register", [0, 6])
def test_processes_end_where_the_hash_tables_code_takes_the_kernels_directory(
    tmp_path: Path, directory: str, register: int
) -> None:
    system = personality("linux", MemoryPlan(288, 256))
    image = kernel(tmp_path, directory=directory, register=register)
    assert conflict(image) is None
    assert system.arena_virtual(image) == 0xB000_0000
    assert system.page_tables(image, lambda _, size: bytes(size)) is not None
    assert system.pager(image, lambda _, size: bytes(size)) is not None
    reaching = kernel(tmp_path, end=0xC000_0000, directory=directory, register=register)
    assert conflict(reaching) == "processes reach up to 0xc0000000 (CONFIG_TASK_SIZE)"


def test_entries_of_64_bits_are_seen(tmp_path: Path) -> None:
    image = kernel(tmp_path, index=WIDE)
    system = personality("linux", MemoryPlan(288, 256))
    assert system.page_tables(image, lambda _, size: bytes(size)) is None
    assert system.pager(image, lambda _, size: bytes(size)) is None
    assert conflict(image) is None


@pytest.mark.parametrize(
    ("directory", "index"),
    [
        ("0xc0020000", SMALL),  # another directory
        ("swapper_pg_dir + 4", SMALL),
        ("swapper_pg_dir", "nop"),
        ("swapper_pg_dir", f"{SMALL}\n {WIDE}"),
        ("swapper_pg_dir", f"{SMALL}\n lis 0,0x9000\n cmplw 4,0"),  # two ends
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, directory: str, index: str) -> None:
    assert conflict(kernel(tmp_path, directory=directory, index=index)) == UNKNOWN


def test_a_kernel_whose_page_directory_is_not_known_has_no_arena(tmp_path: Path) -> None:
    image = kernel(tmp_path, directory="0xc0010000", named="others_pg_dir")
    assert conflict(image) == UNKNOWN
    configured = kernel(
        tmp_path, directory="0xc0010000", named="others_pg_dir", config="CONFIG_TASK_SIZE=0xb0000000\n"
    )
    assert "page directory" in str(conflict(configured))
    assert personality("linux").pager(configured, lambda _, size: bytes(size)) is None
