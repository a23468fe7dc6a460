"""Kernel extensions: what GNU ld makes of the same code is the oracle of every relocation."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image
from kgdbpatch.image.kext import Kext
from kgdbpatch.image.relocate import BadRelocation, Relocation, apply

from . import machobject
from .machobject import ElfObject

_GCC, _LD = "powerpc-linux-gnu-gcc", "powerpc-linux-gnu-ld"
_SECTIONS = {
    ".text": "__TEXT,__text",
    ".rodata": "__TEXT,__const",
    ".data": "__DATA,__data",
    ".bss": "__DATA,__bss",
}
_BASE = 0x0123_8000  # the low half is negative: HA16 and HI16 differ

_C = r"""
extern int printf(const char *, ...);
extern int kernel_variable[];
static int hidden = 7;
int shown = 9;
int buffer[40];
int *pointers[] = {&shown, &hidden, buffer + 3, kernel_variable + 5};
static int helper(int n) { return printf("%d %d", n, hidden); }
int (*table[])(int) = {helper, helper};
int start(int n)
{
    hidden += kernel_variable[n] + kernel_variable[0x6000];
    switch (n) {
    case 0: return helper(1);
    case 1: return shown + 2;
    case 2: return buffer[20000];
    case 3: return helper(4) + 1;
    case 4: return printf("four");
    case 5: return *pointers[n];
    }
    return table[n & 1](n);
}
"""
_ASM = """
    .text
    .globl _extra
_extra:
    beq _printf
    bne- _start
    lis 3, _shown@h
    ori 3, 3, _shown@l
    bl _extra
    lis 4, (_kernel_variable+0x18000)@ha
    lwz 4, (_kernel_variable+0x18000)@l(4)
    b _helper_near
_helper_near:
    blr
    .data
    .long _helper_near - .
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[ElfObject, Path]:
    if not shutil.which(_GCC):
        pytest.skip(f"{_GCC} is not installed")
    directory = tmp_path_factory.mktemp("kext")
    (directory / "a.c").write_text(_C)
    (directory / "b.s").write_text(_ASM)
    flags = ["-O1", "-ffreestanding", "-fleading-underscore", "-msdata=none", "-fno-pic", "-fno-inline"]
    flags += ["-fno-asynchronous-unwind-tables", "-fno-merge-constants", "-Wno-array-bounds"]
    subprocess.run([_GCC, *flags, "-c", "a.c", "b.s"], cwd=directory, check=True)
    subprocess.run([_LD, "-r", "-o", "kext.o", "a.o", "b.o"], cwd=directory, check=True)
    return machobject.read_elf_object((directory / "kext.o").read_bytes()), directory


def _linked_by_ld(elf: ElfObject, directory: Path, names: dict[str, int]) -> dict[str, bytes]:
    place = machobject.addresses(elf)
    body = " ".join(f"{title} 0x{_BASE + at:x} : {{ *({title}) }}" for title, at in place.items())
    (directory / "script.ld").write_text(f"SECTIONS {{ {body} /DISCARD/ : {{ *(*) }} }}")
    symbols = [f"--defsym={name}=0x{address:x}" for name, address in names.items()]
    subprocess.run([_LD, "-T", "script.ld", *symbols, "-o", "linked", "kext.o"], cwd=directory, check=True)
    linked = machobject.read_elf_object((directory / "linked").read_bytes())
    return {title: data for title, (_, _, data) in linked.sections.items()}


@pytest.mark.parametrize("scattered", [False, True])
def test_every_byte_is_as_gnu_ld_links_it(objects: tuple[ElfObject, Path], scattered: bool) -> None:
    elf, directory = objects
    names = {"_printf": _BASE + 0x4000, "_kernel_variable": 0x0040_9000}
    kinds = {kind for _, _, kind, _, _ in elf.relocations}
    assert {1, 4, 5, 6, 10, 11, 26} <= kinds  # ADDR32, LO, HI, HA, REL24, REL14, REL32
    kext = Kext("kext", machobject.build(elf, scattered=scattered))
    assert set(kext.undefined) == set(names)
    contents = kext.link(_BASE, names)
    ours = {section.name: section.data for section in contents.sections}
    for title, data in _linked_by_ld(elf, directory, names).items():
        assert ours[_SECTIONS[title]].hex() == data.hex(), title


def test_an_extension_is_an_image(objects: tuple[ElfObject, Path], tmp_path: Path) -> None:
    elf, _ = objects
    (tmp_path / "kext").write_bytes(machobject.build(elf, scattered=True))
    for _ in range(2):  # read, then remembered
        image = Image.load(tmp_path / "kext")
        assert image.format == "mach-o"
        place = machobject.addresses(elf)
        texts = {n: v for n, v, size, shndx, _ in elf.symbols if size and shndx == elf.sections[".text"][0]}
        assert {"_start", "_helper"} <= set(texts)
        found = {function.name: function.address for function in image.functions}
        assert {name: found.get(name) for name in texts} == {n: v + place[".text"] for n, v in texts.items()}
        assert image.section_at(image.lookup("printf")) is None  # the kernel's
        assert image.lookup("printf") > max(section.end for section in image.sections)


def test_common_symbols_lie_behind_the_sections(tmp_path: Path) -> None:
    elf = ElfObject(
        sections={".text": (1, 8, bytes.fromhex("3c600000 4e800020")), ".data": (2, 4, bytes(4))},
        symbols=[("_f", 0, 8, 1, True), ("_room", 4, 100, 0xFFF2, True)],
        relocations=[(".text", 2, 6, 1, 0), (".data", 0, 1, 1, 8)],
    )
    contents = Kext("k", machobject.build(elf, scattered=False)).link(0x10000, {})
    room = next(symbol for symbol in contents.symbols if symbol.name == "_room")
    assert (room.address % 16, room.size, room.section) == (0, 100, "__DATA,__common")
    assert contents.sections[-1].address <= room.address < contents.sections[-1].end
    assert struct.unpack(">I", contents.sections[1].data)[0] == room.address + 8


def test_a_missing_name_is_named(objects: tuple[ElfObject, Path]) -> None:
    with pytest.raises(BadImage, match="undefined symbols: _printf"):
        Kext("k", machobject.build(objects[0], scattered=True)).link(0, {"_kernel_variable": 0})


def test_a_branch_out_of_reach_is_refused(objects: tuple[ElfObject, Path]) -> None:
    kext = Kext("k", machobject.build(objects[0], scattered=True))
    with pytest.raises(BadImage, match="does not reach"):
        kext.link(0, {"_printf": 0x8000_0000, "_kernel_variable": 0})


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.sampled_from([4, 5, 6, 7]))
def test_halves_of_addresses(before: int, by: int, kind: int) -> None:
    after = before + by & 0xFFFFFFFF
    if kind == 7:  # LO14: the low two bits belong to the opcode
        before, by, after = before & ~3, by & ~3, (before & ~3) + (by & ~3) & 0xFFFFFFFF
    half = {4: before >> 16, 5: before & 0xFFFF, 6: (before + 0x8000) >> 16 & 0xFFFF, 7: before & 0xFFFF | 2}
    expected = {4: after >> 16, 5: after & 0xFFFF, 6: (after + 0x8000) >> 16 & 0xFFFF, 7: after & 0xFFFF | 2}
    other = before & 0xFFFF if kind in (4, 6) else before >> 16
    code = bytearray(struct.pack(">2H", 0x3C60, half[kind]))
    apply(code, Relocation(0, kind, 2, False, True, False, 0, other), 0, lambda _: by)
    assert struct.unpack(">2H", code) == (0x3C60, expected[kind])


@pytest.mark.parametrize(
    ("relocation", "reason"),
    [
        (Relocation(2, 0, 2, False, False, False, 1), "outside its section"),
        (Relocation(0, 0, 1, False, False, False, 1), "of 2 bytes"),
        (Relocation(0, 9, 2, False, False, False, 1), "unknown type 9"),
        (Relocation(0, 4, 2, True, False, False, 1), "pc-relative"),
    ],
)
def test_what_cannot_be_is_refused(relocation: Relocation, reason: str) -> None:
    with pytest.raises(BadRelocation, match=reason):
        apply(bytearray(4), relocation, 0, lambda _: 0)


@given(st.data())
def test_damaged_extensions_give_an_error_of_ours(
    objects: tuple[ElfObject, Path], data: st.DataObject
) -> None:
    whole = bytearray(machobject.build(objects[0], scattered=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(12, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.sampled_from([len(whole), len(whole) // 2]))]
    with contextlib.suppress(BadImage):
        kext = Kext("k", bytes(cut))
        kext.link(0x1000, dict.fromkeys(kext.undefined, 0x2000))
