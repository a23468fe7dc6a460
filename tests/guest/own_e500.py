"""A kernel of one's own for one e500 or two: mapped by TLB1, it counts its steps and checks what it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kgdbpatch.guests import Recipe
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qmp import qmp

__all__ = ["booted", "goes_on", "monitor", "program", "stand", "wired", "word"]

# It maps itself at 0xc0000000, the serial port at 0xe0000000, where the second CPU waits at 0xd0000000;
# it drops what QEMU mapped for its start.
_START = """
    .macro entry number, mas1, page, bits, memory, high
    lis 3,0x1000+\\number
    mtspr 624,3
    lis 3,\\mas1@h
    ori 3,3,\\mas1@l
    mtspr 625,3
    lis 3,\\page
    ori 3,3,\\bits
    mtspr 626,3
    lis 3,\\memory
    ori 3,3,0x15
    mtspr 627,3
    li 3,\\high
    mtspr 944,3
    isync
    tlbwe
    isync
    .endm
    .section .start,"ax"
    .globl _start
_start:
    entry 4, 0xc0000700, 0xc000, 4, 0, 0
    entry 2, 0xc0000500, 0xe000, 0xa, 0xe000, 15
    entry 3, 0xc0000500, 0xd000, 0xa, 0xef00, 15
    lis 3,begin@h
    ori 3,3,begin@l
    mtctr 3
    bctr
    .type begin,@function
begin:
    entry 0, 0, 0, 0, 0, 0      # what QEMU mapped for the first CPU, and the second
    entry 1, 0, 0, 0, 0, 0
    lis 3,0xc000
    mtspr 63,3                  # IVPR
    li 3,0x800
    mtspr 410,3                 # IVOR10: the decrementer
    lis 4,program@h
    ori 4,4,program@l
    mtspr 406,4                 # IVOR6: the program exception
    lis 3,1
    mtspr 54,3
    mtspr 22,3
    lis 3,0x440
    mtspr 340,3                 # TCR
    mfspr 5,286                 # PIR
    slwi 3,5,12
    lis 1,stack@h
    ori 1,1,stack@l
    subf 1,3,1
    li 0,0
    stw 0,0(1)
    lis 3,2
    ori 3,3,0x8000
    mtmsr 3
    mr 3,5
    b main
    .size begin,.-begin
    .org 0x800
    .globl tick
    .type tick,@function
tick:
    mtspr 272,3
    mtspr 273,4
    lis 4,ticks@ha
    lwz 3,ticks@l(4)
    addi 3,3,1
    stw 3,ticks@l(4)
    lis 3,0x800
    mtspr 336,3
    mfspr 4,273
    mfspr 3,272
    rfi
    .size tick,.-tick
    .balign 16
    .globl program
    .type program,@function
program:
    mtspr 272,3
    mtspr 273,4
    mfspr 3,286
    slwi 3,3,2
    addis 3,3,traps@ha
    lwz 4,traps@l(3)
    addi 4,4,1
    stw 4,traps@l(3)
    mfspr 3,26
    addi 3,3,4
    mtspr 26,3
    mfspr 4,273
    mfspr 3,272
    rfi
    .size program,.-program
    .globl unused
unused: .space 64
    tlbre                       # as kernels have one near their start
    .bss
    .balign 16
    .space 0x2000
stack:
    .space 64
    .section .note.GNU-stack,"",@progbits
"""
_MAIN = """
typedef unsigned u32;
volatile u32 ticks, traps[2], steps[2], seen, hold, held[2], lent;
static volatile unsigned char *const uart = (unsigned char *)0xe0004500;
static volatile u32 *const other = (u32 *)0xd0000020; /* where the second CPU waits for an address */

__attribute__((noinline)) void put(const char *text)
{
    for (; *text; text++)
        *uart = *text;
}

__attribute__((noinline)) u32 step(u32 value)
{
    return value * 1664525 + 1013904223;
}

__attribute__((noinline)) u32 mixed(u32 low, u32 high)
{
    u32 is;
    __asm__ volatile("wrteei 0; cmplw %1,%2; isel %0,%1,%2,0; wrteei 1"
                     : "=r"(is) : "b"(low), "r"(high) : "cr0");
    return is;
}

u32 give(u32 at)
{
    lent += at;
    return at;
}

void take(u32 at)
{
    lent -= at;
}

void main(u32 cpu)
{
    if (cpu == 0) {
        put("own: ready\\n");
        other[0] = 0;
        other[1] = 0; /* _start; nothing happens where there is no second one */
    }
    for (u32 value = 0;; steps[cpu]++) {
        for (; hold; held[cpu] = hold)
            ;
        value = step(value);
        __asm__ volatile("trap");
        __asm__ volatile("" : : "r"(value));
        if (mixed(steps[cpu] & 7, 4) > 4)
            put("own: wrong\\n");
        if ((steps[cpu] & 0x3fff) == 0 && cpu == 0)
            put("own: beat\\n");
    }
}
"""
_SCRIPT = """
SECTIONS {
    . = 0xc0000000;
    .text : AT(0) { *(.start) *(.text*) *(.rodata*) }
    . = ALIGN(4096);
    .data : AT(ADDR(.data) - 0xc0000000) { *(.data*) *(.sdata*) }
    .bss : AT(ADDR(.bss) - 0xc0000000) { *(.bss*) *(.sbss*) }
}
"""


def program(place: Path) -> Path:
    """Build it in a folder."""
    for name, text in (("start.s", _START), ("main.c", _MAIN), ("script", _SCRIPT)):
        (place / name).write_text(text)
    flags = [
        "-mcpu=8540",
        "-msoft-float",
        "-mno-altivec",
        "-O2",
        "-ffreestanding",
        "-fno-pic",
        "-fno-asynchronous-unwind-tables",
        "-no-pie",
        "-G0",
    ]
    command = [
        "powerpc-linux-gnu-gcc",
        *flags,
        "-Wa,-me500",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-T",
    ]
    subprocess.run([*command, "script", "-o", "own.elf", "start.s", "main.c"], cwd=place, check=True)
    return place / "own.elf"


def booted(name: str, kernel: Path, cpus: int) -> Recipe:
    """Return the recipe that boots it."""
    options = BootOptions(
        machine="ppce500", kernel=kernel, memory=128, announced=96, ready="own: ready", timeout=60, smp=cpus
    )
    return ordered(name, options)


def word(kernel: Kernel, name: str, index: int = 0) -> int:
    """Return one of the kernel's counters."""
    at = kernel.image.lookup(name) + 4 * index - 0xC000_0000
    return int.from_bytes(kernel.qemu.ram.read(at, 4), "big")


@contextmanager
def stand(kernel: Kernel, cpus: int, number: int) -> Iterator[None]:
    """Have every CPU wait where a step begins, by order ``number`` (not 0, each time another)."""
    at = kernel.image.lookup("hold") - 0xC000_0000
    ram = Path(kernel.qemu.record.ram)
    with ram.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), number.to_bytes(4, "big"), at)
        for cpu in range(cpus):
            while word(kernel, "held", cpu) != number:
                assert kernel.alive
        yield
        os.pwrite(file.fileno(), bytes(4), at)


def goes_on(kernel: Kernel, cpus: int = 1) -> None:
    """Wait until every CPU has made a step, and the clock has ticked."""
    for name, index in (*(("steps", number) for number in range(cpus)), ("ticks", 0)):
        before = word(kernel, name, index)
        while word(kernel, name, index) == before:
            assert kernel.alive


def monitor(kernel: Kernel, command: str, cpus: int) -> list[str]:
    """Return what QEMU's monitor says to a command, of every CPU."""
    socket, told = kernel.qemu.directory / "qmp.sock", []
    for number in range(cpus):
        arguments = {"command-line": command, "cpu-index": number}
        told.append(str(qmp(socket, "human-monitor-command", arguments, 30)))
    return told


def wired(kernel: Kernel, cpus: int) -> list[str]:
    """Return what QEMU says that TLB1 holds, of every CPU."""
    return [told.partition("TLB1")[2] for told in monitor(kernel, "info tlb", cpus)]
