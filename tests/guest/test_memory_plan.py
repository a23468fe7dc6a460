"""Kernels and guests in which the arena's addresses or its memory are not what the plan needs are refused."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import Refused
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.calls import Calls
from kgdbpatch.kernel.install import install
from kgdbpatch.kernel.reservation import Reservation
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.qemu import Qemu

from .parts import client, physical, threads

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux]
recipe = Recipe.find("linux")
linux = recipe.personality
_CONFIG = re.compile(rb"IKCFG_ST(\x1f\x8b.*?)IKCFG_ED", re.DOTALL)

Configured = Callable[..., Image]


@pytest.fixture
def configured(kernel: Kernel, tmp_path: Path) -> Configured:
    """Return the running kernel's image as if it had been configured otherwise; options by name."""

    def make(**options: str) -> Image:
        data = kernel.image.path.read_bytes()
        held = _CONFIG.search(data)
        assert held is not None
        text = gzip.decompress(held[1]).decode()
        text = re.sub(r"^(#.*)?\n", "", text, flags=re.MULTILINE)  # to have room
        for name, value in options.items():
            text = re.sub(rf"^CONFIG_{name}=.*\n", "", text, flags=re.MULTILINE)
            text += f"CONFIG_{name}={value}\n"
        packed = gzip.compress(text.encode(), mtime=0)
        assert len(packed) <= len(held[1])
        path = tmp_path / "vmlinux"
        path.write_bytes(data[: held.start(1)] + packed.ljust(len(held[1]), b"\0") + data[held.end(1) :])
        return Image.load(path)

    return make


def windows(kernel: Kernel) -> list[Window]:
    arena = kernel.header.arena
    assert arena.near is not None
    return [Window(arena.virtual, arena.virtual + arena.size), arena.near]


def conflict(kernel: Kernel, image: Image, plan: ArenaPlan | None = None) -> str | None:
    """Return what is in the way of an arena; what the kernel keeps for the one that is there is not."""
    return linux.arena_conflict(image, kernel.qemu.ram.read, plan, windows(kernel))


def test_the_plan_fits_the_kernel_as_it_is(kernel: Kernel, configured: Configured) -> None:
    assert conflict(kernel, kernel.image) is None
    assert conflict(kernel, configured(HZ="250")) is None


@pytest.mark.parametrize("end", ["0xc0000000", "0xbf400000", "0xd0000000"])
def test_processes_that_reach_into_the_arena(kernel: Kernel, configured: Configured, end: str) -> None:
    assert conflict(kernel, configured(TASK_SIZE=end)) == f"processes reach up to {end} (CONFIG_TASK_SIZE)"


def test_an_arena_in_the_linear_map(kernel: Kernel, configured: Configured) -> None:
    image = configured(TASK_SIZE="0xbf000000")  # the first block behind it is the kernel's own
    assert linux.arena_virtual(image) == 0xC000_0000
    assert conflict(kernel, image) == "0xc0000000 is in the kernel's linear map"


def test_stacks_that_may_be_anywhere(kernel: Kernel, configured: Configured) -> None:
    """With page tables that are not read, no mapped stack is known to be dead."""
    memory, unread = threads(kernel), configured(PTE_64BIT="y")
    with kernel.stopped() as session:
        registers = session.registers()
        here = registers["r1"] if not registers["msr"] & 0x4000 else 0
        sleeper = next(one for one in memory.all() if not one.stack.start <= here < one.stack.end)
        place = sleeper.stack.start + 0x100  # far below where it left its stack: nobody comes back there
        assert place < sleeper.sp
        assert not linux.may_resume(kernel.image, memory, place, None)
        assert linux.may_resume(unread, memory, place, None)


def test_modules_go_elsewhere_than_the_arena(kernel: Kernel) -> None:
    """What the kernel keeps for the arena is given to nobody, however much code is loaded."""
    arena, taken = kernel.header.arena, []
    patch = kernel.patch("udp_sendmsg", count=True)
    allocate, free, more = allocator(kernel)
    for _ in range(12):
        at = kernel.call(allocate, *more, 4 << 20)
        if not at:  # all that the kernel has for modules: 64 MiB on 6.12, less our 16
            break
        assert not any(one.start < at + (4 << 20) and at < one.end for one in windows(kernel)), hex(at)
        taken.append(at)
    assert len(taken) >= 8
    assert conflict(kernel, kernel.image) is None
    memory, last = threads(kernel), arena.physical + arena.size
    for window in windows(kernel):
        shown = {at - window.end: memory.mapped(at) for at in range(window.start, window.end, 4096)}
        assert all(physical in (None, last + distance) for distance, physical in shown.items())
    second = kernel.patch("do_sys_openat2", count=True)
    for at in taken:
        kernel.call(free, at)
    assert patch.hits
    assert second.hits
    assert kernel.verify().ok


def allocator(kernel: Kernel) -> tuple[str, str, tuple[int, ...]]:
    """Return by which functions this kernel takes and frees memory for modules, and what comes first."""
    if kernel.image.knows("module_alloc"):
        return "module_alloc", "module_memfree", ()
    return "execmem_alloc", "execmem_free", (0,)


def test_what_a_kernel_that_keeps_nothing_may_map_later(kernel: Kernel, tmp_path: Path) -> None:
    """It is refused by what the kernel has mapped so far, here behind the arena that is there."""
    at = kernel.header.arena.virtual + 2 * kernel.header.arena.size
    plan = replace(linux.arena(kernel.image), virtual=at, near=Window(at + (64 << 20), at + (80 << 20)))
    inside = at + (68 << 20)
    hidden = tmp_path / "vmlinux"
    hidden.write_bytes(kernel.image.path.read_bytes().replace(b"free_vm_area\0", b"fr33_vm_area\0"))
    image = Image.load(hidden)
    assert conflict(kernel, image, plan) is None
    at = kernel.call(allocator(kernel)[0], *allocator(kernel)[2], 4 << 20)
    directory = physical(kernel, kernel.image.lookup("swapper_pg_dir"))
    entry = directory + 4 * (at >> 22)
    table = kernel.qemu.ram.read(entry, 4)
    assert any(table)
    with kernel.stopped() as session:
        session.write_physical(directory + 4 * (inside >> 22), table)
    told = f"the kernel has a page table for 0x{inside:08x} (modules grow there)"
    assert conflict(kernel, image, plan) == told
    told = rf"the kernel has mapped 0x{inside >> 24:02x}[4-7]\w{{5}} \(modules lie there\)"
    assert re.fullmatch(told, conflict(kernel, kernel.image, plan) or "")
    with kernel.stopped() as session:
        session.write_physical(directory + 4 * (inside >> 22), bytes(4))
    kernel.call(allocator(kernel)[1], at)


def boot_refused(path: Path, name: str) -> str:
    with pytest.raises(Refused) as refused:
        Kernel.boot(path, name)
    assert refused.value.rule == "mapping"
    return str(refused.value)


def test_a_kernel_that_uses_all_memory(tmp_path: Path) -> None:
    told_all = tmp_path / "all.toml"
    told_all.write_text(recipe.path.read_text().replace("mem={announced_mib}M ", ""))
    told = boot_refused(told_all, f"all-{tmp_path.name}"[-40:])
    assert "the kernel uses 0x12000000 bytes of memory, not 0x10000000 as told (mem=)" in told


def test_a_second_cpu(kernel: Kernel, tmp_path: Path) -> None:
    """No board with a 7xx has two in QEMU: the kernel lies in the memory of another, which stands still."""
    board = ["-machine", "ppce500", "-cpu", "e500v2", "-smp", "2", "-S"]
    loader = ["-kernel", str(kernel.image.path)]
    machine = recipe.machine
    qemu = Qemu.start(f"two-{tmp_path.name}"[-40:], machine, 320, [*board, *loader])
    try:
        with Debugger(qemu) as debugger, client(kernel) as component:
            text = RunningText(qemu, linux, kernel.image)
            calls = Calls(qemu, lambda: debugger, Ppc6xx(), linux, kernel.image, text)
            reservation = Reservation(qemu, linux, kernel.image, calls, text)
            with pytest.raises(Refused, match="the guest has 2 CPUs") as refused:
                install(qemu, kernel.image, text, component, reservation)
        assert refused.value.rule == "mapping"
    finally:
        qemu.shutdown()
