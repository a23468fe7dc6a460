from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image

from .machofile import N_ABS, N_EXT, N_SECT, PURE_INSTRUCTIONS, MachO, Part

NOP, BLR = b"\x60\0\0\0", b"\x4e\x80\0\x20"

SOURCE = r"""
    .section .head.text,"ax"
    .globl _start
_start:
    b main
    .globl asm_routine
asm_routine:
    nop
.Lnever:
    nop
local_routine:
    blr
    .section .text,"ax"
    .globl main, main_alias
    .type main,@function
    .type main_alias,@function
main:
main_alias:
    nop
    .globl inside
inside:
    nop
    blr
    .size main, .-main
    .globl unsized
    .type unsized,@function
unsized:
    nop
    nop
    .type twin,@function
twin: blr
    .size twin, .-twin
    .globl padding_marker
padding_marker:
    .long 0, 0
    .globl _etext
_etext:
    .section .init.text,"ax"
    .type setup,@function
setup: blr
    .size setup, .-setup
    .data
    .globl counter
    .type counter,@object
counter: .long 0x11223344
    .size counter, 4
    .bss
    .globl buffer
    .type buffer,@object
buffer: .space 64
    .size buffer, 64
"""
TWIN = ".text\n.type twin,@function\ntwin: blr\n.size twin, .-twin\n.globl const\n.set const, 0x1234\n"


def macho() -> MachO:
    return MachO(
        parts=[
            Part("__VECTORS", "__interrupts", 0, NOP * 64, flags=PURE_INSTRUCTIONS),
            Part("__TEXT", "__text", 0x3000, NOP * 31 + BLR, flags=PURE_INSTRUCTIONS),
            Part("__TEXT", "__const", 0x3080, b"hello\0\0\0"),
            Part("__DATA", "__data", 0x4000, struct.pack(">II", 0x3000, 7)),
            Part("__DATA", "__bss", 0x4008, size=0x100, flags=1),
        ],
        symbols=[
            (".L_reset", N_SECT, 1, 0x40),
            ("inner", N_SECT, 1, 0x44),
            ("_trap", N_SECT, 1, 0x80),
            ("_f_alias", N_SECT, 2, 0x3000),
            ("_f", N_SECT | N_EXT, 2, 0x3000),
            (".L_not_here", N_SECT, 2, 0x3008),
            ("_g", N_SECT | N_EXT, 2, 0x3020),
            ("error_exit", N_SECT, 2, 0x3024),
            ("_static", N_SECT, 2, 0x3010),
            ("_etext", N_SECT | N_EXT, 2, 0x3080),
            ("_msg", N_SECT, 3, 0x3080),
            ("_netisr", N_SECT | N_EXT, 4, 0x4004),
            ("_zeroed", N_SECT | N_EXT, 5, 0x4010),
            ("_abs", N_ABS | N_EXT, 0, 0x5000),
            ("_stab", 0x24, 2, 0x3004),
        ],
        protection={"__DATA": 3},
        entry=0x3010,
    )


@pytest.fixture(scope="session")
def macho_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("macho") / "mach_kernel"
    path.write_bytes(macho().build())
    return path


@pytest.fixture(scope="session")
def elf_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("powerpc-linux-gnu-gcc"):
        pytest.skip("powerpc-linux-gnu-gcc is not installed")
    directory = tmp_path_factory.mktemp("elf")
    (directory / "a.s").write_text(SOURCE)
    (directory / "b.s").write_text(TWIN)
    script = (
        "ENTRY(_start) SECTIONS { . = 0xc0000000; .head.text : { *(.head.text) } .text : { *(.text) } "
        ".init.text : { *(.init.text) } .data : { *(.data) } .bss : { *(.bss) } }"
    )
    (directory / "script.ld").write_text(script)
    options = ["-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-T,script.ld", "-Wl,-z,noexecstack"]
    command = ["powerpc-linux-gnu-gcc", *options, "-o", "vmlinux", "a.s", "b.s"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "vmlinux"


@pytest.fixture(scope="session")
def macho_image(macho_path: Path) -> Image:
    return Image.load(macho_path)


@pytest.fixture(scope="session")
def elf_image(elf_path: Path) -> Image:
    return Image.load(elf_path)
