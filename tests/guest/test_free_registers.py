"""A register called free is free: junk is put into every one of them at running places of a kernel."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.image import Function
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


def _selfchecks(kernel: Kernel, lines: int, what: object) -> None:
    """Wait for lines of the guest's check of its own work, all of them without a failure."""
    for _ in range(lines):
        line = kernel.log.wait("selfcheck", deadline=120, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad"), what


def _place(kernel: Kernel, sites: Iterable[int], most: int) -> dict[int, tuple[str, ...]]:
    """Overwrite what is free at the first ``most`` sites that may be patched; return them."""
    junked: dict[int, tuple[str, ...]] = {}
    for site in sites:
        free = kernel.live(site).free
        if not _junk(free):
            continue
        try:
            kernel.patch(site, asm=_junk(free), count=True)
        except Refused:
            continue
        junked[site] = free
        if len(junked) == most:
            break
    return junked


def _named(kernel: Kernel, junked: dict[int, tuple[str, ...]]) -> list[str]:
    return [f"{kernel.image.symbolize(site)}: {' '.join(free)}" for site, free in junked.items()]


def _random_site(rng: random.Random, function: Function) -> int:
    return function.address + 4 * rng.randrange(function.size // 4)


def _overwrite(kernel: Kernel, functions: list[str] | list[int], least: int) -> None:
    rng = random.Random(1)
    drawn = (_random_site(rng, kernel[rng.choice(functions)]) for _ in iter(int, 1))
    seen: set[int] = set()
    fresh = (site for site in drawn if not (site in seen or seen.add(site)))
    junked = _place(kernel, fresh, SITES)
    _selfchecks(kernel, 2, _named(kernel, junked))
    assert sum(1 for patch in kernel.list() if patch.hits) >= least
    kernel.remove_all()
    assert kernel.verify().ok


def test_free_registers_of_darwin(kernel: Kernel) -> None:
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text" and f.size >= 8]
    _overwrite(kernel, functions, least=20)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_free_registers_of_linux(kernel: Kernel) -> None:
    _overwrite(kernel, LINUX, least=10)


def _overwrite_everywhere(kernel: Kernel, sites: Iterator[int], total: int, batch: int) -> int:
    """Overwrite free registers at ``total`` sites, batch by batch; return how many were reached."""
    done = reached = 0
    while done < total:
        junked = _place(kernel, sites, min(batch, total - done))
        if not junked:
            break
        _selfchecks(kernel, 2, _named(kernel, junked))
        reached += sum(1 for patch in kernel.list() if patch.hits)
        kernel.remove_all()
        done += len(junked)
        print(f"{done} sites junked, {reached} of them reached", flush=True)
    assert kernel.verify().ok
    assert done == total
    return reached


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_free_registers_everywhere_in_darwin(kernel: Kernel) -> None:
    """5,000 sites, or every site that may be patched where the kernel has fewer."""
    rng = random.Random(int(os.environ.get("KGDBPATCH_SEED", "1")))
    functions = [f for f in kernel.image.functions if f.section == "__TEXT,__text"]
    every = [f.address + 4 * n for f in functions for n in range(f.size // 4)]
    rng.shuffle(every)
    assert _overwrite_everywhere(kernel, iter(every), 5000, 250) > 500


@pytest.mark.soak
@pytest.mark.timeout(5400)
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_free_registers_everywhere_in_linux(kernel: Kernel) -> None:
    """5,000 sites in as many functions."""
    rng = random.Random(int(os.environ.get("KGDBPATCH_SEED", "1")))
    functions = [f for f in kernel.image.functions if f.section == ".text"]
    rng.shuffle(functions)
    sites = (_random_site(rng, function) for function in functions)
    assert _overwrite_everywhere(kernel, sites, 5000, 250) > 300
