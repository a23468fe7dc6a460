"""Exception vectors are found by where they lie physically, or there are none in the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from analysis.code import link, needs_as

from kgdbpatch.component import layout
from kgdbpatch.component.arena import header_checksum
from kgdbpatch.cpu.ppc6xx.vectors import VECTORS
from kgdbpatch.cpu.vectors import Vectors
from kgdbpatch.image import Image
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.patch.trap import HOOK_SIZE
from kgdbpatch.personality import personality
from kgdbpatch.vm.ram import Ram

pytestmark = needs_as

CODE = " .globl f\n .type f,@function\nf: li r3,1\n blr\n .size f,.-f\n .space 0x2000"


def _kernel(place: Path, virtual: int, physical: int) -> Image:
    script = place / "script"
    script.write_text(f"SECTIONS {{ . = {virtual:#x}; .text : AT({physical:#x}) {{ *(.text) }} }}")
    return link(CODE, place, "-T", script)


@dataclass(frozen=True)
class Guest:
    """A guest that is RAM alone."""

    ram: Ram


def _running(image: Image, place: Path) -> RunningText:
    """Return the text of a kernel that runs with an empty component installed, in a file for its RAM."""
    linux = personality("linux")
    size = linux.memory.memory << 20
    ram = place / "ram"
    with ram.open("wb") as file:
        file.truncate(size)
        for section in image.code_sections():
            physical = linux.to_physical(image, section.address)
            assert physical is not None
            file.seek(physical)
            file.write(section.data)
        header = np.zeros(1, layout.HEADER)
        header["version"], header["physical"] = layout.VERSION, linux.memory.announced << 20
        file.seek(linux.memory.announced << 20)
        header["crc"] = header_checksum(header.tobytes(), b"")
        file.write(layout.MAGIC + header.tobytes()[len(layout.MAGIC) :])
    return RunningText(Guest(Ram(str(ram), size)), linux, image)


@pytest.mark.parametrize("physical", [0, 0x100000])
def test_a_kernel_without_named_vector_sections_is_read(physical: int, tmp_path: Path) -> None:
    image = _kernel(tmp_path, 0xC0000000 + physical, physical)
    running = _running(image, tmp_path)
    assert running.header() is not None
    assert running.words(image.lookup("f"), 2).tolist() == [0x38600001, 0x4E800020]
    assert running.free_tails() == []


def test_vectors_are_known_by_their_physical_addresses(tmp_path: Path) -> None:
    linux = personality("linux")
    image = _kernel(tmp_path, 0xC0000000, 0)
    assert VECTORS.places(linux, image) == tuple(0xC0000000 + at for at in VECTORS.offsets)
    assert VECTORS.shift(linux, image) == 0xC0000000
    image = _kernel(tmp_path, 0xC0100000, 0x100000)
    assert VECTORS.places(linux, image) == ()
    assert VECTORS.shift(linux, image) is None


# Timers of the 4xx (PPC405 UM, table 5-1): three vectors within what one has elsewhere.
FOUR = Vectors((0x100, 0x200, 0x300, 0x600, 0x700, 0x1000, 0x1010, 0x1020, 0x1100), 0x600)
CODE_OF_FOUR = """
        .macro vector at, leaves
        .org    \\at
        mtspr   272,3
        .if     \\leaves
        b       f
        .endif
        .endm
        vector  0x100,1
        vector  0x200,0
        vector  0x300,1
        vector  0x600,1
        vector  0x700,1
        vector  0x1000,1
        vector  0x1010,0
        vector  0x1020,1
        vector  0x1100,1
        .org    0x1200
        .globl  f
        .type   f,@function
f:      blr
        .size   f,.-f
"""


def test_a_family_with_vectors_elsewhere_gives_their_offsets_alone(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } }")
    image, linux = link(CODE_OF_FOUR, tmp_path, "-T", script), personality("linux")
    base = 0xC000_0000
    assert FOUR.places(linux, image) == tuple(base + at for at in FOUR.offsets)
    tails = [(window.start - base, window.end - base) for window in FOUR.tails(linux, image)]
    assert tails == [
        (0x108, 0x200),
        (0x308, 0x400),  # 0x200 has code that runs on
        (0x608, 0x700),
        (0x708, 0x800),
        (0x1008, 0x1010),  # ends at the next timer's; that one's runs on
        (0x1028, 0x1100),
        (0x1108, 0x1200),
    ]

    def words(at: int, count: int) -> npt.NDArray[np.uint32]:
        return np.frombuffer(image.read(at, 4 * count), ">u4").astype(np.uint32)

    hook = FOUR.hook(linux, image, linux.arena(image), words)
    assert hook is not None
    assert (hook.vector - base, hook.at + HOOK_SIZE - base, hook.shift) == (0x600, 0x700, base)
    ends = [0x1200, 0x1100, 0x800, 0x400, 0x200]
    assert FOUR.gates(linux, image, 64) == [base + end - 64 for end in ends], "not where the hook would be"
    elsewhere = replace(FOUR, program=0x1100)
    assert elsewhere.gates(linux, image, 64)[0] == base + 0x1100 - 64
    assert replace(FOUR, program=0x1300).hook(linux, image, linux.arena(image), words) is None, (
        "no such vector"
    )
