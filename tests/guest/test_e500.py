"""A kernel of one's own on an e500, mapped by TLB1, no real mode: booted, patched, read."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.component.kernel_calls import Gate, KernelCalls
from kgdbpatch.cpu.booke import E500
from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.kernel import Kernel
from kgdbpatch.personality.base import Window

# It maps itself at 0xc0000000 and the serial port at 0xe0000000, and drops what QEMU mapped for its start.
START = """
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
    entry 1, 0xc0000700, 0xc000, 4, 0, 0
    entry 2, 0xc0000500, 0xe000, 0xa, 0xe000, 15
    lis 3,begin@h
    ori 3,3,begin@l
    mtctr 3
    bctr
    .type begin,@function
begin:
    entry 0, 0, 0, 0, 0, 0
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
    lis 1,stack@h
    ori 1,1,stack@l
    li 0,0
    stw 0,0(1)
    lis 3,2
    ori 3,3,0x8000
    mtmsr 3
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
    lis 4,traps@ha
    lwz 3,traps@l(4)
    addi 3,3,1
    stw 3,traps@l(4)
    mfspr 3,26
    addi 3,3,4
    mtspr 26,3
    mfspr 4,273
    mfspr 3,272
    rfi
    .size program,.-program
    .globl unused
unused: .space 64
    .bss
    .balign 16
    .space 0x2000
stack:
    .space 64
    .section .note.GNU-stack,"",@progbits
"""
MAIN = """
typedef unsigned u32;
volatile u32 ticks, traps, steps, seen;
static volatile unsigned char *const uart = (unsigned char *)0xe0004500;

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

void main(void)
{
    put("own: ready\\n");
    for (u32 value = 0;; steps++) {
        value = step(value);
        __asm__ volatile("trap");
        __asm__ volatile("" : : "r"(value));
        if (mixed(steps & 7, 4) > 4)
            put("own: wrong\\n");
        if ((steps & 0x3fff) == 0)
            put("own: beat\\n");
    }
}
"""
SCRIPT = """
SECTIONS {
    . = 0xc0000000;
    .text : AT(0) { *(.start) *(.text*) *(.rodata*) }
    . = ALIGN(4096);
    .data : AT(ADDR(.data) - 0xc0000000) { *(.data*) *(.sdata*) }
    .bss : AT(ADDR(.bss) - 0xc0000000) { *(.bss*) *(.sbss*) }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("own")
    for name, text in (("start.s", START), ("main.c", MAIN), ("script", SCRIPT)):
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


@pytest.fixture(scope="module")
def own(program: Path) -> Iterator[Kernel]:
    options = BootOptions(
        machine="ppce500", kernel=program, memory=128, announced=96, ready="own: ready", timeout=60
    )
    with Kernel.boot(ordered("own-e500", options)) as kernel:
        yield kernel


def word(kernel: Kernel, name: str) -> int:
    at = kernel.image.lookup(name) - 0xC000_0000
    return int.from_bytes(kernel.qemu.ram.read(at, 4), "big")


def goes_on(kernel: Kernel) -> None:
    for name in ("steps", "ticks"):
        before = word(kernel, name)
        while word(kernel, name) == before:
            assert kernel.alive


def test_a_payload_in_assembler_acts(own: Kernel) -> None:
    with own.patch("step", asm="lis r12,seen@ha; stw r3,seen@l(r12)") as patch:
        goes_on(own)
        first = word(own, "seen")
        assert first
        assert [row.id for row in own.patch_table()] == [patch.id]
        assert own.verify().ok
    goes_on(own)
    own.remove_all()  # collects what a thread was in
    assert own.patch_table() == []
    assert own.verify().ok


def test_counts_are_exact(own: Kernel) -> None:
    """The kernel counts its steps itself."""
    with own.patch("step", count=True) as patch, own.patch("mixed", count=True) as other:

        def counts() -> tuple[int, ...]:
            goes_on(own)
            with own.stopped():
                return patch.hits or 0, other.hits or 0, word(own, "steps")

        before, after = counts(), counts()
        first, second, third = (new - old for new, old in zip(after, before, strict=True))
        assert third > 0
        assert abs(first - third) <= 1
        assert abs(second - third) <= 1


def test_a_payload_in_c_is_compiled_for_the_cpu(own: Kernel) -> None:
    source = r'void put(const char *); static int n; void probe(void) { if (!n++) put("own: probed\n"); }'
    since = own.qemu.console.position()
    with own.patch("step", c=source):
        own.qemu.console.wait("own: probed", since=since)
        goes_on(own)


def test_instructions_of_book_e_are_sites(own: Kernel) -> None:
    """What an e500 alone has is moved like all others: the kernel checks what they do."""
    start = own.image.lookup("mixed")
    texts = {at: own.site_checker.instruction(at).written_for("e500") for at in range(start, start + 16, 4)}
    sites = [at for at, text in texts.items() if text.split()[0] in ("wrteei", "isel")]
    assert len(sites) >= 2, texts
    patches = [own.patch(at, count=True) for at in sites]
    goes_on(own)
    assert all(patch.hits for patch in patches)
    for patch in patches:
        patch.remove()
    assert "own: wrong" not in "".join(own.qemu.console.lines())


def test_what_is_not_there_yet_is_refused_by_name(own: Kernel) -> None:
    with pytest.raises(Refused, match="uses SPE"):
        own.patch("step", asm="evor r12,r12,r12")
    with pytest.raises(BadPatch, match="may not return or jump away"):
        own.patch("step", asm="rfci")
    assert own.verify().ok


def test_a_trap_leads_to_the_patch_and_leaves_no_trace(own: Kernel) -> None:
    """The kernel's own traps, one for each step, are its own all the time."""
    with own.stopped():
        text = own.qemu.ram.read(0, 0x2000)
    first, second = (own.patch("step", count=True, via="trap") for _ in range(2))
    assert [patch.entry for patch in (first, second)] == ["trap", "trap"]

    def counts() -> tuple[int, ...]:
        goes_on(own)
        with own.stopped():
            return first.hits or 0, second.hits or 0, word(own, "traps"), word(own, "steps")

    before, after = counts(), counts()
    *counted, steps = (new - old for new, old in zip(after, before, strict=True))
    assert steps > 0
    assert all(abs(one - steps) <= 1 for one in counted), (counted, steps)
    assert own.verify().ok
    second.remove()
    goes_on(own)
    first.remove()
    goes_on(own)
    own.remove_all()
    assert own.qemu.ram.read(0, 0x2000) == text
    assert own.verify().ok


def test_every_register_arrives_as_it_was(own: Kernel) -> None:
    with own.patch("step", asm="nop", via="trap") as patch, own.stopped() as session:
        for _ in range(3):
            before = session.run_to(own.image.lookup("step"), 30)
            after = session.run_to(patch.body, 30)
            before["pc"] = patch.body
            assert after.raw == before.raw


def test_memory_is_read_as_the_cpu_maps_it(own: Kernel) -> None:
    at = own.image.lookup("step")
    assert own.read_virtual(at, 8) == own.image.read(at, 8)


def test_the_kernels_own_functions_can_be_called(own: Kernel) -> None:
    """The thread that is lent comes back through the component's address space, every register as it was."""
    step, unused = own["step"], own.image.lookup("unused")
    calls = KernelCalls(own.qemu, lambda: own.debugger, E500(), 96 << 20, lambda at: at - 0xC000_0000)
    gate, place = Gate(unused, unused - 0xC000_0000), Window(step.address, step.end)
    with own.qemu.exclusive(10):
        calls.prepare()
        values = [calls.call(step.address, (number,), place, gate, 30) for number in (5, 0xFFFF_FFFF)]
    assert values == [(number * 1664525 + 1013904223) & 0xFFFF_FFFF for number in (5, 0xFFFF_FFFF)]
    assert not any(own.qemu.ram.read(unused - 0xC000_0000, 64))
    goes_on(own)
    assert own.verify().ok
