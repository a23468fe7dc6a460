"""Small files that look like kernels from outside."""

from __future__ import annotations

import subprocess
from pathlib import Path

_LINUX = """
    .section .head.text,"ax"
    .globl _start
_start: b _start
    .section __ex_table,"a"
    .long 0,0
    .data
    .asciz "{words}"
"""


def link(source: str, path: Path, *options: str) -> Path:
    """Make an ELF file of assembler text."""
    command = ["powerpc-linux-gnu-gcc", "-nostdlib", "-static", "-Wl,--build-id=none", *options]
    command += ["-x", "assembler", "-o", str(path), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def linux(place: Path, words: str = "Run %s as init process", name: str = "vmlinux") -> Path:
    """Make an ELF file that is a Linux by its exception table, with ``words`` among its data."""
    placed = ("-Wl,-Ttext=0xc0001000", "-Wl,--section-start=.head.text=0xc0000000")
    return link(_LINUX.format(words=words), place / name, *placed)


def bare(place: Path, source: str = ".globl _start\n_start: b _start\n", name: str = "bare.elf") -> Path:
    """Make an ELF file of no system that is known, at 1 MiB."""
    return link(source, place / name, "-Wl,-Ttext=0x100000")
