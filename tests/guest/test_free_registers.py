"""A register called free is free: junk is put into every one of them at running places of a kernel."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.image import Function
from kgdbpatch.kernel import Batch, Kernel, analyses

from .junk import junk

SITES = 60
EVERYWHERE, BATCH = 20_000, 4000

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


def _selfchecks(kernel: Kernel, lines: int, what: Callable[[], object]) -> None:
    """Wait for lines of the guest's check of its own work, all of them without a failure."""
    for _ in range(lines):
        line = kernel.log.wait("selfcheck: |panic|Oops", deadline=120, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad"), what()


def _free(kernel: Kernel, site: int) -> tuple[str, ...]:
    """Return what is free at a site; nothing where there is no instruction."""
    try:
        return kernel.live(site).free
    except Refused:
        return ()


def _overwrite(kernel: Kernel, sites: Iterable[int]) -> Batch:
    """Overwrite what is free at each of ``sites``, in one stop."""
    payloads = {site: junk(_free(kernel, site), kernel.image.abi) for site in sites}
    return kernel.patch_each({site: payload for site, payload in payloads.items() if payload})


def _named(kernel: Kernel, batch: Batch) -> list[str]:
    sites = [patch.site for patch in batch.patches]
    return [f"{kernel.image.symbolize(site)}: {' '.join(kernel.live(site).free)}" for site in sites]


def _reached(kernel: Kernel) -> int:
    return sum(1 for patch in kernel.patches if patch.hits)


def _random_site(rng: random.Random, function: Function) -> int:
    return function.address + 4 * rng.randrange(function.size // 4)


def _overwrite_some(kernel: Kernel, functions: Sequence[str | int], least: int) -> None:
    rng = random.Random(1)
    batch = _overwrite(kernel, {_random_site(rng, kernel[rng.choice(functions)]) for _ in range(SITES)})
    _selfchecks(kernel, 2, lambda: _named(kernel, batch))
    assert _reached(kernel) >= least
    kernel.remove_all()
    assert kernel.verify().ok


def test_free_registers_of_darwin(kernel: Kernel) -> None:
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text" and f.size >= 8]
    _overwrite_some(kernel, functions, least=20)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_free_registers_of_linux(kernel: Kernel) -> None:
    _overwrite_some(kernel, LINUX, least=10)


def _overwrite_everywhere(kernel: Kernel, sites: Iterator[int], total: int) -> tuple[int, int]:
    """Overwrite free registers at ``total`` sites or all, batch by batch; return (sites, sites reached)."""
    done = reached = 0
    while done < total and (drawn := list(itertools.islice(sites, min(BATCH, total - done)))):
        batch = _overwrite(kernel, drawn)
        _selfchecks(kernel, 5, partial(_named, kernel, batch))
        assert kernel.verify().patched == len(batch.patches)
        done += len(batch.patches)
        reached += _reached(kernel)
        kernel.remove_all()
        print(f"{done} sites overwritten, {reached} of them reached", flush=True)
    _selfchecks(kernel, 2, lambda: "after the last removal")
    assert kernel.verify().ok
    return done, reached


def _rng() -> random.Random:
    return random.Random(int(os.environ.get("KGDBPATCH_SEED", "1")))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_free_registers_everywhere_in_darwin(kernel: Kernel) -> None:
    """Every site that may be patched: the kernel has fewer than 20,000."""
    functions = [f for f in kernel.image.functions if f.section == "__TEXT,__text"]
    every = [f.address + 4 * n for f in functions for n in range(f.size // 4)]
    _rng().shuffle(every)
    done, reached = _overwrite_everywhere(kernel, iter(every), EVERYWHERE)
    assert done > 0.95 * len(every)
    assert reached > 0.5 * done


def _running_sites(kernel: Kernel) -> list[int]:
    """Return the instructions of the basic blocks that the workload runs: functions first, then blocks."""
    run = _hit(kernel, [f.address for f in kernel.image.functions if f.section == ".text"])
    liveness = analyses.liveness(kernel.image)
    first, last = (
        liveness.program.address[at].tolist() for at in (liveness.blocks.first, liveness.blocks.last)
    )
    ends = dict(zip(first, last, strict=True))
    inside = [at for f in map(kernel.__getitem__, run) for at in range(f.address, f.end, 4) if at in ends]
    return [at for first in _hit(kernel, inside) for at in range(first, ends[first] + 4, 4)]


def _hit(kernel: Kernel, sites: Sequence[int]) -> list[int]:
    """Return those of ``sites`` that a workload of some seconds comes by."""
    kernel.patch_all(sites, count=True)
    _selfchecks(kernel, 5, lambda: "while counting")
    hit = sorted({patch.site for patch in kernel.patches if patch.hits})
    kernel.remove_all()
    return hit


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_free_registers_everywhere_in_linux(kernel: Kernel) -> None:
    """One half of the sites in blocks that the workload runs, one in functions drawn from all."""
    rng = _rng()
    running = _running_sites(kernel)
    rng.shuffle(running)
    functions = [f for f in kernel.image.functions if f.section == ".text"]
    others = list({_random_site(rng, rng.choice(functions)) for _ in range(EVERYWHERE)} - set(running))
    rng.shuffle(others)
    drawn = itertools.chain.from_iterable(zip(running, others, strict=False))
    done, reached = _overwrite_everywhere(kernel, drawn, EVERYWHERE)
    assert done == EVERYWHERE
    assert reached > 0.4 * done
