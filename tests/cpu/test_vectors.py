"""Exception vectors are found by where they lie physically, or there are none in the image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from analysis.code import link, needs_as

from kgdbpatch.component import layout
from kgdbpatch.component.arena import header_checksum
from kgdbpatch.cpu.ppc6xx import vectors
from kgdbpatch.image import Image
from kgdbpatch.kernel.running import RunningText
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
    assert vectors.vectors(linux, image) == tuple(0xC0000000 + at for at in vectors.VECTORS)
    assert vectors.shift(linux, image) == 0xC0000000
    image = _kernel(tmp_path, 0xC0100000, 0x100000)
    assert vectors.vectors(linux, image) == ()
    assert vectors.shift(linux, image) is None
