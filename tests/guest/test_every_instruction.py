"""Counting patches at every instruction and at every basic block of a kernel, under its workload."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from kgdbpatch.image import Function
from kgdbpatch.kernel import Batch, Kernel, analyses

RUN = 60  # seconds under every instruction of darwin
FUNCTIONS, BATCH = 2000, 20_000  # of Linux
AT_ONCE = 255_000  # of its blocks; the table has 262,144 entries


def _apply(kernel: Kernel, sites: Sequence[int]) -> Batch:
    """Put a counting patch at all sites that may be patched, and tell how many that are."""
    started = time.monotonic()
    batch = kernel.patch_all(sites, count=True)
    print(
        f"\n{len(sites)} sites: {len(batch.patches)} spliced, the guest stood still for "
        f"{batch.pause_us / 1000:.0f} of {1000 * (time.monotonic() - started):.0f} ms"
    )
    for rule, count in Counter(refusal.rule for refusal in batch.refused).most_common():
        print(f"  refused, {rule}: {count} ({count / len(sites):.2%})")
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, len(batch.patches))
    return batch


def _work(kernel: Kernel, seconds: float) -> None:
    """Let the guest check itself for so long, and one time at least."""
    until = time.monotonic() + seconds
    while True:
        line = kernel.log.wait("selfcheck: |panic|Oops", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")
        if time.monotonic() >= until:
            return


def _remove(kernel: Kernel) -> int:
    """Take all patches out; return how many had been hit. Nothing of them is left."""
    hit = sum(1 for patch in kernel.patches if patch.hits)
    for _ in range(10):
        if not kernel.remove_all():
            break
        _work(kernel, 0)
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
    assert kernel.patches == []
    assert kernel.arena_used == 0
    return hit


def _words(functions: Sequence[Function]) -> list[int]:
    return sorted({site for function in functions for site in range(function.address, function.end, 4)})


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_instruction_of_darwin(kernel: Kernel) -> None:
    """All of ``__text`` at once: there are no exception vectors in it."""
    sites = _words([function for function in kernel.image.functions if function.section == "__TEXT,__text"])
    batch = _apply(kernel, sites)
    assert len(batch.refused) < 0.01 * len(sites)
    _work(kernel, RUN)
    assert _remove(kernel) > 0.5 * len(sites)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_every_instruction_of_many_functions_of_linux(kernel: Kernel) -> None:
    functions = [function for function in kernel.image.functions if function.section == ".text"]
    sites = _words(random.Random(1).sample(functions, FUNCTIONS))
    hit = 0
    for first in range(0, len(sites), BATCH):
        _apply(kernel, sites[first : first + BATCH])
        _work(kernel, 3)
        hit += _remove(kernel)
    print(f"{hit} of {len(sites)} were hit")
    assert hit > 0.02 * len(sites)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_every_basic_block_of_linux(kernel: Kernel) -> None:
    """The first instruction of each: as many as the table has room for in one apply, then the others."""
    liveness = analyses.liveness(kernel.image)
    inside = liveness.program.function[liveness.blocks.first] >= 0
    firsts = liveness.program.address[liveness.blocks.first[inside]].tolist()
    (text,) = (section for section in kernel.image.code_sections() if section.name == ".text")
    sites = [site for site in firsts if site in text]
    random.Random(2).shuffle(sites)
    for some in (sorted(sites[:AT_ONCE]), sorted(sites[AT_ONCE:])):
        batch = _apply(kernel, some)
        assert sum(one.rule != "rewritten" for one in batch.refused) < 0.02 * len(some)  # one a function is
        _work(kernel, 20)
        assert _remove(kernel) > 0.02 * len(some)
