"""Kernels and guests in which the arena's addresses or its memory are not what the plan needs are refused."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

from .parts import threads

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


def conflict(kernel: Kernel, image: Image) -> str | None:
    return linux.arena_conflict(image, kernel.qemu.ram.read)


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
    memory, vmapped = threads(kernel), configured(VMAP_STACK="y")
    with kernel.stopped() as session:
        registers = session.registers()
        here = registers["r1"] if not registers["msr"] & 0x4000 else 0
        sleeper = next(one for one in memory.all() if not one.stack.start <= here < one.stack.end)
        place = sleeper.stack.start + 0x100  # far below where it left its stack: nobody comes back there
        assert place < sleeper.sp
        assert not linux.may_resume(kernel.image, memory, place, None)
        assert linux.may_resume(vmapped, memory, place, None)


def test_modules_that_take_the_near_window(kernel: Kernel, tmp_path: Path) -> None:
    names = {symbol.name for symbol in kernel.image.symbols}
    take, declared = ("module_alloc(1 << 20)", "void *module_alloc(unsigned long);")
    if "module_alloc" not in names:
        take, declared = ("execmem_alloc(0, 1 << 20)", "void *execmem_alloc(int, unsigned long);")
    source = tmp_path / "take.c"
    source.write_text(
        f"{declared} int _printk(const char *, ...); static int done;\n"
        f'void f(void) {{ int i; if (done++) return; for (i = 0; i < 24; i++) {take}; _printk("taken\\n"); }}'
    )
    taker = kernel.patch("udp_sendmsg", c=source, entry="f")
    kernel.log.wait("taken", deadline=60)
    with pytest.raises(Refused, match=r"page table for 0xbf[0-9a-f]+ \(modules grow there\)") as refused:
        kernel.patch("do_sys_openat2", count=True)
    assert refused.value.rule == "mapping"
    with pytest.raises(Refused, match="modules grow there"):
        kernel.check("do_sys_openat2")
    kernel.remove(taker.id)  # what is in can be taken out
    assert kernel.verify().ok


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
        with pytest.raises(Refused, match="the guest has 2 CPUs") as refused:
            Kernel(qemu, recipe, kernel.image)._install()
        assert refused.value.rule == "mapping"
    finally:
        qemu.shutdown()
