from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lief
import pytest

from kgdbpatch.guests import Recipe
from kgdbpatch.guests.sources import guest_sources

GCC = "powerpc-linux-gnu-gcc"
N_STAB, N_SO, N_FUN = 0xE0, 0x64, 0x24
pytestmark = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")

SMALL = r"""
        .section "__VECTORS,__interrupts", "ax"
        .org 0x100
.L_handler100: rfi
        .section "__TEXT,__text", "ax"
        .globl _first, _alias, _start
_start:
_first:
_alias: nop
Llabel: blr
_second: blr
        .section "__TEXT,__const", "a"
        .balign 64
_table: .long 1, 2, 3
        .section "__DATA,__data", "aw"
        .globl _word
_word:  .long _second
        .section "__DATA,__bss", "aw", @nobits
_zeros: .space 100
        .globl _constant
        .set _constant, 0x1234
        .section .left_out, "a"
_gone:  .long 0
"""
SCRIPT = """
ENTRY(_start)
SECTIONS {
    "__VECTORS,__interrupts" 0 : { *("__VECTORS,__interrupts") }
    . = 0x11000;
    "__TEXT,__text" : { *("__TEXT,__text") }
    "__TEXT,__const" : { *("__TEXT,__const") }
    . = ALIGN(0x1000);
    "__DATA,__data" : { *("__DATA,__data") }
    "__DATA,__bss" : { *("__DATA,__bss") }
    .left_out : { *(.left_out) }
    /DISCARD/ : { *(.text .data .bss .gnu.attributes) }
}
"""


@pytest.fixture(scope="session")
def macho() -> ModuleType:
    path = guest_sources("darwin").parent / "macho.py"
    spec = importlib.util.spec_from_file_location("macho_converter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def linked(directory: Path, source: str, script: str) -> Path:
    (directory / "small.s").write_text(source)
    (directory / "small.ld").write_text(script)
    output = directory / "small.elf"
    flags = ["-nostdlib", "-static", "-no-pie", "-Wa,--keep-locals,--noexecstack"]
    flags += ["-Wl,--build-id=none,--no-warn-rwx-segments", "-T", "small.ld"]
    subprocess.run([GCC, *flags, "small.s", "-o", str(output)], cwd=directory, check=True, timeout=60)
    return output


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return linked(tmp_path, SMALL, SCRIPT)


@pytest.fixture(scope="module")
def kernel() -> Path:
    return Recipe.find("darwin").build(print)


_kept: list[Any] = []  # LIEF's parts do not keep what they are part of alive


def read(data: bytes) -> Any:
    fat = lief.MachO.parse(data)
    assert fat is not None
    assert fat.size == 1
    _kept.extend([fat, fat.at(0)])
    return _kept[-1]


def macho_symbols(binary: Any) -> set[tuple[str, int, str | None, bool]]:
    """Return name, address, section and whether it is external of every symbol."""
    sections = [section for segment in binary.segments for section in segment.sections]
    found = set()
    for symbol in binary.symbols:
        if symbol.raw_type & N_STAB:
            continue
        absolute = symbol.raw_type & 0xE == 0x2
        section = None if absolute else sections[symbol.numberof_sections - 1]
        name = None if section is None else f"{section.segment_name},{section.name}"
        found.add((symbol.name, symbol.value, name, bool(symbol.raw_type & 1)))
    return found


def elf_symbols(path: Path) -> set[tuple[str, int, str | None, bool]]:
    """Return the same of an ELF file, of the sections that a Mach-O file of it has."""
    elf = lief.ELF.parse(str(path))
    assert elf is not None
    found = set()
    sections = list(elf.sections)
    for symbol in elf.symtab_symbols:
        absolute = symbol.shndx == 0xFFF1
        if not symbol.name or symbol.shndx == 0 or symbol.type in (symbol.TYPE.SECTION, symbol.TYPE.FILE):
            continue
        name = None if absolute else sections[symbol.shndx].name
        if absolute or "," in str(name):
            external = symbol.binding != symbol.BINDING.LOCAL
            found.add((str(symbol.name), symbol.value, None if name is None else str(name), external))
    return found


def elf_content(section: Any) -> bytes:
    return b"" if section.type == section.TYPE.NOBITS else bytes(section.content)


def test_the_kernel_is_a_powerpc_executable(kernel: Path) -> None:
    binary = read(kernel.read_bytes())
    assert kernel.read_bytes()[:4] == bytes.fromhex("feedface")
    assert binary.header.cpu_type == lief.MachO.Header.CPU_TYPE.POWERPC
    assert binary.header.file_type == lief.MachO.Header.FILE_TYPE.EXECUTE
    assert len(binary.commands) == binary.header.nb_cmds
    assert [segment.name for segment in binary.segments] == ["__VECTORS", "__TEXT", "__DATA", "__LINKEDIT"]
    assert [section.name for section in binary.sections] == [
        "__interrupts",
        "__text",
        "__const",
        "__cstring",
        "__data",
        "__bss",
        "__common",
    ]


@pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")
def test_file_names_it(kernel: Path) -> None:
    said = subprocess.run(["file", "-b", str(kernel)], capture_output=True, text=True, check=True, timeout=30)
    assert "Mach-O ppc executable" in said.stdout


def test_sections_hold_what_the_elf_file_holds(kernel: Path) -> None:
    elf = lief.ELF.parse(str(kernel.with_suffix(".elf")))
    assert elf is not None
    wanted = {
        section.name: (section.virtual_address, section.size, section.alignment, elf_content(section))
        for section in elf.sections
        if "," in section.name
    }
    data = kernel.read_bytes()
    found = {}
    for segment in read(data).segments:
        for section in segment.sections:
            zero_fill = section.type == lief.MachO.Section.TYPE.ZEROFILL
            assert zero_fill == (section.offset == 0)
            content = b"" if zero_fill else data[section.offset : section.offset + section.size]
            name = f"{section.segment_name},{section.name}"
            found[name] = (section.virtual_address, section.size, 1 << section.alignment, content)
            assert section.virtual_address % (1 << section.alignment) == 0
            assert segment.virtual_address <= section.virtual_address
            assert section.virtual_address + section.size <= segment.virtual_address + segment.virtual_size
    assert found == wanted
    assert list(found) == list(wanted)


def test_symbols_are_those_of_the_elf_file(kernel: Path) -> None:
    found = macho_symbols(read(kernel.read_bytes()))
    assert found == elf_symbols(kernel.with_suffix(".elf"))
    names = {name for name, _, section, _ in found if section is not None}
    assert {"_run_netisr", "_netisr", "_printf", "_kmem_alloc_wired", ".L_handler300"} <= names
    assert any(name.startswith("L") for name in names)  # labels inside functions


def test_the_entry_is_the_elf_entry(kernel: Path) -> None:
    elf = lief.ELF.parse(str(kernel.with_suffix(".elf")))
    assert elf is not None
    command = read(kernel.read_bytes()).thread_command
    assert command.flavor == 1
    assert command.count == 40
    assert struct.unpack_from(">I", bytes(command.state))[0] == elf.entrypoint


def test_segments_are_page_aligned_in_memory_and_file(kernel: Path) -> None:
    end = 0
    for segment in read(kernel.read_bytes()).segments:
        assert segment.virtual_address % 0x1000 == 0
        assert segment.virtual_size % 0x1000 == 0
        assert segment.virtual_address >= end
        assert segment.file_offset % 0x1000 == 0
        assert segment.file_size <= segment.virtual_size
        end = segment.virtual_address + segment.virtual_size


def test_a_small_file_in_full(macho: ModuleType, small: Path) -> None:
    data = macho.convert(small.read_bytes())
    binary = read(data)
    assert macho_symbols(binary) == {
        (".L_handler100", 0x100, "__VECTORS,__interrupts", False),
        ("_start", 0x11000, "__TEXT,__text", True),
        ("_first", 0x11000, "__TEXT,__text", True),
        ("_alias", 0x11000, "__TEXT,__text", True),
        ("Llabel", 0x11004, "__TEXT,__text", False),
        ("_second", 0x11008, "__TEXT,__text", False),
        ("_table", 0x11040, "__TEXT,__const", False),
        ("_word", 0x12000, "__DATA,__data", True),
        ("_zeros", 0x12004, "__DATA,__bss", False),
        ("_constant", 0x1234, None, True),
    }
    assert [symbol.numberof_sections for symbol in binary.symbols if symbol.name == "_table"] == [3]
    text = next(segment for segment in binary.segments if segment.name == "__TEXT")
    assert bytes(text.content)[:12] == bytes.fromhex("60000000 4e800020 4e800020")
    const = next(section for section in text.sections if section.name == "__const")
    assert (const.alignment, const.size) == (6, 12)
    data_segment = next(segment for segment in binary.segments if segment.name == "__DATA")
    assert data_segment.file_size == 4
    assert data_segment.virtual_size == 0x1000
    assert data[data_segment.file_offset :][:4] == bytes.fromhex("00011008")
    kinds, flags = lief.MachO.Section.TYPE, lief.MachO.Section.FLAGS
    assert {section.name: section.type for section in binary.sections} == {
        "__interrupts": kinds.REGULAR,
        "__text": kinds.REGULAR,
        "__const": kinds.REGULAR,
        "__data": kinds.REGULAR,
        "__bss": kinds.ZEROFILL,
    }
    code = {section.name for section in binary.sections if section.has(flags.PURE_INSTRUCTIONS)}
    assert code == {"__interrupts", "__text"}


def test_the_command_converts(macho: ModuleType, small: Path, tmp_path: Path) -> None:
    script, output = guest_sources("darwin").parent / "macho.py", tmp_path / "out"
    subprocess.run([sys.executable, str(script), str(small), str(output)], check=True, timeout=30)
    assert output.read_bytes() == macho.convert(small.read_bytes())


def damaged(elf: bytes, case: str) -> bytes:
    if case == "little-endian":
        return elf[:5] + b"\x01" + elf[6:]
    if case == "another machine":
        return elf[:18] + b"\x00\x03" + elf[20:]
    return b"MZ" + elf[2:]


@pytest.mark.parametrize("case", ["little-endian", "another machine", "no ELF"])
def test_another_file_is_refused(macho: ModuleType, small: Path, case: str) -> None:
    with pytest.raises(ValueError, match="no big-endian 32-bit PowerPC ELF"):
        macho.convert(damaged(small.read_bytes(), case))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"__VECTORS,__interrupts" 0 :', '".vectors" 0 :', None),
        ("0x11000", "0x11010", "__TEXT is not page-aligned"),
        ('"__TEXT,__const" :', '"__TEXT,__a_name_of_20_bytes" :', "longer than 16 bytes"),
        ('"__TEXT,__const" :', '"__VECTORS,__const" :', "__VECTORS are not adjacent"),
    ],
)
def test_layouts(macho: ModuleType, tmp_path: Path, old: str, new: str, message: str | None) -> None:
    assert old in SCRIPT
    elf = linked(tmp_path, SMALL, SCRIPT.replace(old, new)).read_bytes()
    if message is None:  # a section of another name is left out
        assert next(segment.name for segment in read(macho.convert(elf)).segments) == "__TEXT"
    else:
        with pytest.raises(ValueError, match=message):
            macho.convert(elf)


def stabs(data: bytes) -> list[tuple[str, int, int]]:
    """Return name, type and value of the debugging entries."""
    symbols = read(data).symbols
    return [(s.name, s.raw_type, s.value) for s in symbols if s.raw_type & N_STAB]


def test_debugging_entries_stand_between_the_symbols(kernel: Path) -> None:
    entries = [(s.name, s.raw_type, s.value) for s in read(kernel.read_bytes()).symbols]
    files = [name for name, kind, _ in entries if kind == N_SO and name]
    assert {"trap.c", "pmap.c", "netisr.c"} <= set(files)
    named = {name: value for name, kind, value in entries if not kind & N_STAB}
    functions = [(name, value) for name, kind, value in entries if kind == N_FUN]
    assert len(functions) > 100
    assert all(name.endswith(":f1") and value for name, value in functions)
    position = entries.index(("trap.c", N_SO, next(v for n, k, v in entries if n == "trap.c" and k == N_SO)))
    following = entries[position + 1 : position + 3]
    assert following[0][1] == N_FUN
    assert following[1][0] == following[0][0].removesuffix(":f1")
    assert named[following[1][0]] == following[1][2]


def test_absolute_symbols_and_aliases(kernel: Path) -> None:
    found = macho_symbols(read(kernel.read_bytes()))
    assert ("_kernel_red_zone", 224, None, True) in found
    addresses = {name: value for name, value, section, _ in found if section is not None}
    assert len({addresses[name] for name in ("_splhigh", "_splnet", "_splimp", "_splclock")}) == 1


def test_macholib_reads_it(kernel: Path) -> None:
    macholib = pytest.importorskip("macholib.MachO")
    (header,) = macholib.MachO(str(kernel)).headers
    assert header.endian == ">"
    names = [command.segname.rstrip(b"\0").decode() for _, command, _ in header.commands[:4]]
    assert names == ["__VECTORS", "__TEXT", "__DATA", "__LINKEDIT"]


@pytest.mark.skipif(shutil.which("llvm-objdump") is None, reason="llvm-objdump is not installed")
def test_llvm_objdump_reads_it(kernel: Path) -> None:
    def objdump(*options: str) -> str:
        command = ["llvm-objdump", "--macho", *options, str(kernel)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    headers = objdump("--private-headers")
    assert "PPC" in headers
    assert headers.count("cmd LC_SEGMENT") == 4
    assert "cmd LC_UNIXTHREAD" in headers
    symbols = objdump("--syms")
    assert " F __TEXT,__text _run_netisr" in symbols
    assert "__VECTORS,__interrupts .L_handler300" in symbols
