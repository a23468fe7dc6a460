from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from kgdbpatch.guests.sources import guest_sources

GCC = "powerpc-linux-gnu-gcc"
pytestmark = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")

SOURCE = """
        .text
        .globl  _start, _far
_start: lis     3, _word@ha
        lwz     4, _word@l(3)
        lis     5, _outside@h
        ori     5, 5, _outside@l
        bl      Lnear
        blr
Lnear:  blr
        .data
        .globl  _word
        .long   0
_word:  .long   _start + 8
        .long   _outside + 4
        .bss
_room:  .space  40
"""
VANILLA, PAIR, HI16, LO16, HA16 = 0, 1, 4, 5, 6


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    images = str(guest_sources("darwin").parent)
    sys.path.insert(0, images)
    try:
        return import_module("macho_object")
    finally:
        sys.path.remove(images)


def relocatable(directory: Path, source: str) -> bytes:
    (directory / "one.s").write_text(source)
    script = guest_sources("darwin") / "kext.ld"
    subprocess.run([GCC, "-c", "-Wa,-mregnames", "one.s"], cwd=directory, check=True, timeout=60)
    command = ["powerpc-linux-gnu-ld", "-r", "-d", "-T", str(script), "one.o", "-o", "all.o"]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    return (directory / "all.o").read_bytes()


class Object:
    """A Mach-O object, taken apart by hand."""

    def __init__(self, data: bytes) -> None:
        self.header = struct.unpack_from(">7I", data)
        count = struct.unpack_from(">I", data, 28 + 48)[0]
        self.sections, self.relocations = {}, {}
        for index in range(count):
            fields = struct.unpack_from(">16s16s9I", data, 28 + 56 + 68 * index)
            name, (address, size, offset, _, at, number) = fields[0].rstrip(b"\0").decode(), fields[2:8]
            self.sections[name] = (address, data[offset : offset + size] if offset else bytes(size))
            self.relocations[name] = [struct.unpack_from(">2I", data, at + 8 * n) for n in range(number)]
        symtab = struct.unpack_from(">6I", data, 28 + 56 + 68 * count)
        self.symbols = []
        for index in range(symtab[3]):
            name, kind, section, _, value = struct.unpack_from(">I2BHI", data, symtab[2] + 12 * index)
            start = symtab[4] + name
            self.symbols.append((data[start : data.index(b"\0", start)].decode(), kind, section, value))

    def kinds(self, section: str) -> list[tuple[int, bool]]:
        return [(info & 15, bool(info >> 4 & 1)) for _, info in self.relocations[section]]


@pytest.fixture
def made(converter: ModuleType, tmp_path: Path) -> Object:
    return Object(converter.convert_object(relocatable(tmp_path, SOURCE)))


def test_it_is_an_object_with_all_sections(made: Object) -> None:
    assert made.header[0] == 0xFEEDFACE
    assert made.header[3] == 1
    assert {"__text", "__data", "__bss"} <= set(made.sections)
    ends = sorted((address, address + len(data)) for address, data in made.sections.values())
    assert all(first[1] <= second[0] for first, second in pairwise(ends))


def test_values_in_place_are_those_at_address_zero(made: Object) -> None:
    at, text = made.sections["__text"]
    start, data = made.sections["__data"]
    words = struct.unpack(f">{len(text) // 4}I", text)
    assert words[0] == 0x3C600000  # the upper half of a low address
    assert words[1] & 0xFFFF == start + 4
    assert words[4] == 0x48000009  # a relative branch needs nothing
    assert struct.unpack(">3I", data) == (0, at + 8, 4)


def test_what_a_loader_must_do(made: Object) -> None:
    assert made.kinds("__text") == [
        (HA16, False),
        (PAIR, False),
        (LO16, False),
        (PAIR, False),
        (HI16, True),
        (PAIR, False),
        (LO16, True),
        (PAIR, False),
    ]
    assert made.kinds("__data") == [(VANILLA, False), (VANILLA, True)]
    _, info = made.relocations["__data"][1]
    assert made.symbols[info >> 8][:3] == ("_outside", 1, 0)


def test_symbols_are_where_their_sections_are(made: Object) -> None:
    named = {name: (kind, value) for name, kind, _, value in made.symbols}
    assert named["_word"] == (15, made.sections["__data"][0] + 4)
    assert named["_room"] == (14, made.sections["__bss"][0])


def test_a_relative_branch_out_of_the_object_is_refused(converter: ModuleType, tmp_path: Path) -> None:
    elf = relocatable(tmp_path, "_start: bl _outside\n")
    with pytest.raises(ValueError, match="leaves the object"):
        converter.convert_object(elf)
