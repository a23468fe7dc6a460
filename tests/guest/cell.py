"""What a Linux guest must stand, whichever kernel and board it is: a cell of the matrix of guests."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence

from kgdbpatch.image import Function
from kgdbpatch.kernel import Kernel, analyses
from kgdbpatch.kernel.guest_doctor import examine
from kgdbpatch.results import PatchState

from .work import beat, empty, hits

__all__ = ["blocks", "busy", "counts", "doctor", "functions", "probes", "rounds", "trapped"]

PROBED = ("udp_sendmsg", "pipe_write", "kernel_clone")  # what init's workers call all the time
PROBE = """
int {print}(const char *, ...);
void probe(void)
{{
    static int runs;

    if (runs++ < 3)
        {print}("probe: {name} ran %d times\\n", runs);
}}
"""


def functions(kernel: Kernel) -> list[Function]:
    """Return the kernel's own functions, without those of its boot."""
    return [one for one in kernel.functions() if one.section == ".text" and one.size >= 16]


def doctor(kernel: Kernel, *lacking: str) -> None:
    """All works but what a guest is known to lack."""
    found = {trait.topic: trait for trait in examine(kernel.name)}
    assert {topic for topic, trait in found.items() if not trait.works} == set(lacking)


def probes(kernel: Kernel) -> None:
    """C at three functions is seen in the log."""
    (symbol,) = kernel.functions("_printk") or kernel.functions("printk")
    position = kernel.log.position()
    for name in PROBED:
        kernel.patch(name, c=PROBE.format(name=name, print=symbol.name))
    for name in PROBED:
        kernel.log.wait(rf"^probe: {name} ran 3 times$", since=position, deadline=120)
    assert kernel.verify().patched == len(PROBED)
    empty(kernel)


def counts(kernel: Kernel, number: int = 1000) -> int:
    """Count at functions drawn from all, in one apply; return how many of them ran."""
    drawn = random.Random(1).sample(functions(kernel), 2 * number)
    sites = [one.address for one in drawn if kernel.check(one.address, count=True).allowed][:number]
    assert len(sites) == number
    batch = kernel.patch_all(sites, count=True)
    assert not batch.refused
    assert kernel.verify().patched == number
    beat(kernel, 2)
    ran = sum(1 for patch in kernel.patches if patch.hits)
    empty(kernel)
    return ran


def busy(kernel: Kernel) -> list[Function]:
    """Return the functions that the workload comes by within some seconds."""
    kernel.patch_all([one.address for one in functions(kernel)], count=True)
    beat(kernel, 3)
    sites = {patch.site for patch in kernel.patches if patch.hits}
    empty(kernel)
    return [one for one in functions(kernel) if one.address in sites]


def blocks(kernel: Kernel, chosen: Sequence[Function]) -> tuple[int, int]:
    """Count at every block of functions that run; return how many could be, and how many ran.

    A block that must come by another one of the same function is counted no more often than that one.
    """
    liveness = analyses.liveness(kernel.image)
    starts = liveness.program.address[liveness.blocks.first].tolist()
    inside = [at for at in starts if any(one.address <= at < one.end for one in chosen)]
    batch = kernel.patch_all(inside, count=True)
    assert {one.rule for one in batch.refused} <= {"rewritten", "reservation", "no-code", "untranslated"}
    assert kernel.verify().patched == len(batch.patches)
    beat(kernel, 3)
    ran = sum(1 for patch in kernel.patches if patch.hits)
    empty(kernel)
    return len(batch.patches), ran


def trapped(kernel: Kernel) -> None:
    """A site that is entered by a trap counts what one beside it counts that is entered by a branch."""
    trap = kernel.patch("udp_sendmsg", count=True, via="trap")
    branch = kernel.patch("udp_sendmsg", count=True)
    kernel.pause()
    first = hits(trap), hits(branch)
    kernel.resume()
    beat(kernel, 2)
    kernel.pause()
    last = hits(trap), hits(branch)
    kernel.resume()
    assert last[0] > first[0]
    assert abs((last[0] - first[0]) - (last[1] - first[1])) <= 1  # one may be between them
    empty(kernel)


def rounds(kernel: Kernel, times: int) -> None:
    """Put in and take out, at functions that run."""
    rng = random.Random(2)
    chosen = busy(kernel)
    until = time.monotonic() + 3000
    for _ in range(times):
        patch = kernel.patch(rng.choice(chosen).address, count=True)
        assert patch.state is PatchState.ACTIVE
        patch.remove()
        assert time.monotonic() < until
    beat(kernel)
    empty(kernel)


def words(kernel: Kernel, pattern: str) -> int:
    """Return how many lines of the guest's console match."""
    return sum(1 for line in kernel.log.lines() if re.search(pattern, line.message))
