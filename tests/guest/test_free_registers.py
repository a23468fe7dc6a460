"""A register called free is free: junk is put into every one of them at running places of a kernel."""

from __future__ import annotations

import random

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel

SITES = 60

# run by the workload all the time
LINUX = [
    "udp_sendmsg",
    "udp_recvmsg",
    "inet_sendmsg",
    "inet_recvmsg",
    "vfs_read",
    "vfs_write",
    "pipe_read",
    "pipe_write",
    "do_pipe2",
    "kernel_clone",
    "do_wait",
    "path_openat",
    "do_filp_open",
    "filp_close",
    "do_mmap",
    "handle_mm_fault",
    "generic_perform_write",
    "vfs_statx",
    "do_sys_openat2",
    "ksys_read",
    "ksys_write",
    "copy_process",
    "load_elf_binary",
    "dput",
    "exit_mmap",
]
_JUNK = "0x6bad"


def _junk(free: tuple[str, ...]) -> str:
    """Return code that overwrites every free register; none when there is nothing to do it with."""
    gprs = [name for name in free if name.startswith("r")]
    if not gprs:
        return ""
    fields = sum(1 << (7 - int(name[2:])) for name in free if name.startswith("cr"))
    first = gprs[0]
    lines = [f"lis {first},{_JUNK}", f"mtcrf {fields},{first}" if fields else "nop"]
    lines += [f"mt{name} {first}" for name in ("lr", "ctr") if name in free]
    lines += [f"addic {first},{first},-1"] * ("ca" in free)
    lines += [f"lis {name},{_JUNK}" for name in gprs]
    return "\n".join(lines) + "\n"


def _overwrite(kernel: Kernel, functions: list[str], least: int) -> None:
    random_sites = random.Random(1)
    junked: dict[int, tuple[str, ...]] = {}
    while len(junked) < SITES:
        function = kernel[random_sites.choice(functions)]
        site = function.address + 4 * random_sites.randrange(function.size // 4)
        free = kernel.live(site).free
        if site in junked or not _junk(free):
            continue
        try:
            kernel.patch(site, asm=_junk(free), count=True)
        except Refused:
            continue
        junked[site] = free
    for _ in range(2):
        line = kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad"), junked
    assert sum(1 for patch in kernel.list() if patch.hits) >= least
    kernel.remove_all()
    assert kernel.verify().ok


def test_free_registers_of_darwin(kernel: Kernel) -> None:
    functions = [f.name for f in kernel.image.functions if f.section == "__TEXT,__text" and f.size >= 8]
    _overwrite(kernel, functions, least=20)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_free_registers_of_linux(kernel: Kernel) -> None:
    _overwrite(kernel, LINUX, least=10)
