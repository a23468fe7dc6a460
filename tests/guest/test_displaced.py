"""Every form of instruction is displaced in running kernels, under their workload, and does no harm."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.isa.decode import Instruction, Kind, decode
from kgdbpatch.kernel import Kernel, Patch

pytestmark = pytest.mark.long

PER_FORM = 6
CHECKS = 3
ALWAYS = {"b", "bl", "bc conditional", "bc counting", "bclr", "bcctrl", "mtmsr", "stwu", "plain"}

# run by the workload all the time
LINUX = [
    *("udp_sendmsg", "udp_recvmsg", "inet_sendmsg", "vfs_read", "vfs_write", "pipe_read", "pipe_write"),
    *("kernel_clone", "do_wait", "path_openat", "do_filp_open", "filp_close", "do_mmap", "handle_mm_fault"),
    *("generic_perform_write", "vfs_statx", "ksys_read", "ksys_write", "copy_process", "load_elf_binary"),
    *("dput", "exit_mmap", "schedule", "__schedule", "_switch", "try_to_wake_up", "update_curr"),
    *(
        "hrtimer_interrupt",
        "__hrtimer_run_queues",
        "timer_interrupt",
        "do_syscall_64",
        "system_call_exception",
    ),
    *(
        "memcpy",
        "memset",
        "strlen",
        "csum_partial",
        "__copy_tofrom_user",
        "_raw_spin_lock",
        "kmem_cache_alloc",
    ),
    *("kmem_cache_free", "__list_add_valid", "interrupt_return", "ret_from_syscall", "arch_cpu_idle"),
    *("do_idle", "find_vma", "mas_walk", "link_path_walk", "walk_component", "d_lookup", "__d_lookup_rcu"),
]


_BRANCHES = (Kind.BRANCH, Kind.JUMP, Kind.CALL, Kind.RETURN, Kind.INDIRECT)
_OTHERS = {"mtmsr", "stwu", "rfi", "sc", "lwarx", "mflr", "mtlr", "mtctr"}


def form(instruction: Instruction) -> str:
    """Name the way in which an instruction is displaced."""
    name = instruction.mnemonic
    if instruction.kind not in _BRANCHES:
        return name if name in _OTHERS else "plain"
    if name.startswith("bc") and not instruction.word & 0x0080_0000:
        return f"{name} counting"
    return f"{name} conditional" if instruction.conditional else name


def displace_all(kernel: Kernel, functions: Iterable[str | int], most: int) -> None:
    sites = defaultdict(list)
    for name in functions:
        function = kernel[name]
        for index, word in enumerate(kernel.words(function.address, function.size // 4)):
            instruction = decode(int(word), function.address + 4 * index)
            sites[form(instruction)].append(instruction.address)
    chance = random.Random(5)
    forms: dict[int, str] = {}
    rules: set[str] = set()
    for kind, addresses in sorted(sites.items()):
        chance.shuffle(addresses)
        put = 0
        for address in addresses:
            if put == PER_FORM or len(forms) == most:
                break
            try:
                patch = kernel.patch(address, count=True)
            except Refused as refused:
                rules.add(refused.rule)
                continue
            forms[patch.id] = kind
            put += 1
    for _ in range(CHECKS):
        line = kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad"), forms
    translation = {"untranslated", "translation switch"}
    assert rules <= {"reservation", "trap", "fault table", "mapping", "stack"} | translation
    ran = {forms[patch.id] for patch in kernel.patches if patch.hits}
    assert set(forms.values()) >= ALWAYS
    assert ran >= ALWAYS, f"never ran: {ALWAYS - ran}"
    kernel.remove_all()
    assert kernel.verify().ok


def test_displaced_on_darwin(kernel: Kernel) -> None:
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text" and f.size >= 8]
    displace_all(kernel, functions, most=100)  # two springboard slots each at most


# every register but the stack's and the system's
EVERYTHING = "".join(f"lis r{n},0x6bad\n" for n in (0, *range(3, 13), *range(14, 32)))
EVERYTHING += "mtlr r3\nmtctr r4\nmtcrf 255,r5\nmtxer r6\n"


def change_everything(kernel: Kernel, functions: Sequence[str | int]) -> None:
    """Code that changes every register is put at random places; the kernel never notices."""
    chance = random.Random(4)
    put: list[Patch] = []
    while len(put) < 40:
        function = kernel[chance.choice(functions)]
        address = function.address + 4 * chance.randrange(function.size // 4)
        try:
            put.append(kernel.patch(address, asm=EVERYTHING, count=True))
        except Refused:
            continue
    for _ in range(CHECKS):
        line = kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad"), [hex(patch.site) for patch in put]
    assert sum(1 for patch in kernel.patches if patch.hits) >= 15
    kernel.remove_all()
    assert kernel.verify().ok


def test_everything_changed_is_kept_on_darwin(kernel: Kernel) -> None:
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text" and f.size >= 8]
    change_everything(kernel, functions)


@pytest.mark.soak
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_everything_changed_is_kept_on_linux(kernel: Kernel) -> None:
    known = {function.name for function in kernel.image.functions}
    change_everything(kernel, [name for name in LINUX if name in known])


LEAF = "static unsigned sum; void leaf(unsigned a, unsigned b) { sum = sum * 5 + a - b; }\n"


def run_leaf(kernel: Kernel, tmp_path: Path, functions: list[str] | list[int]) -> None:
    """C code that calls nothing saves little: put it amid functions, and take it out under load."""
    source = tmp_path / "leaf.c"
    source.write_text(LEAF)
    chance = random.Random(3)
    put: list[Patch] = []
    for name in functions:
        address = kernel[name].address + 4 * chance.randrange(kernel[name].size // 4)
        try:
            put.append(kernel.patch(address, c=source))
        except Refused:
            continue
        assert set(put[-1].saved) <= {"r3", "r4", "r5", "r6", "r9", "r10", "r11", "r12", "cr0", "lr", "ctr"}
    for _ in range(CHECKS):
        line = kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad"), [hex(patch.site) for patch in put]
    assert sum(1 for patch in kernel.patches if patch.hits) >= 6
    kernel.remove_all()
    kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
    kernel.remove(*(patch.id for patch in kernel.patches))
    assert not kernel.patches
    assert kernel.verify().ok


@pytest.mark.soak
def test_leaf_on_darwin(kernel: Kernel, tmp_path: Path) -> None:
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text" and f.size >= 64]
    run_leaf(kernel, tmp_path, functions[::9][:18])


@pytest.mark.soak
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_leaf_on_linux(kernel: Kernel, tmp_path: Path) -> None:
    known = {function.name for function in kernel.image.functions}
    run_leaf(kernel, tmp_path, [name for name in LINUX if name in known][:24])


@pytest.mark.soak
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_displaced_on_linux(kernel: Kernel) -> None:
    known = {function.name for function in kernel.image.functions}
    displace_all(kernel, [name for name in LINUX if name in known], most=1000)
