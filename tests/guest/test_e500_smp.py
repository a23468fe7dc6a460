"""Two e500 at the same time in patched code: both mapped, both stopped, every hit counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from kgdbpatch.component.kernel_calls import Gate, KernelCalls
from kgdbpatch.cpu.booke import E500
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.personality.base import Window

from .own_e500 import booted, goes_on, program, wired, word

BINARY = "qemu-system-ppc64"  # it runs them at the same time
pytestmark = pytest.mark.skipif(shutil.which(BINARY) is None, reason=f"{BINARY} is not installed")
CPUS = range(2)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    recipe = booted("own-e500-smp", program(tmp_path_factory.mktemp("own")), 2)
    assert recipe.machine.binary == BINARY
    with Kernel.boot(recipe) as kernel:
        goes_on(kernel, 2)
        yield kernel


def steps(kernel: Kernel) -> list[int]:
    return [word(kernel, "steps", number) for number in CPUS]


def emptied(kernel: Kernel) -> None:
    """Take everything out, when the CPUs have left it."""
    while kernel.remove_all():
        goes_on(kernel, 2)
    assert kernel.patch_table() == []
    assert kernel.header.hook is None


def test_one_cpu_is_meant_and_moved_at_a_time(both: Kernel) -> None:
    with both.stopped() as session:
        assert (session.cpus, session.cpu) == (2, 0)
        places = []
        for number in CPUS:
            session.select(number)
            assert session.register("pir") == number
            assert session.register("tlb1cfg") & 0xFFF == 16
            assert session.register("r1") < both.image.lookup("stack") - 0x1000 * number
            places.append(session.read_all())
        session.step(3)
        assert session.read_all() != places[1]
        session.select(0)
        assert session.read_all() == places[0]
        registers = session.run_to(both.image.lookup("step"), 30)
        assert registers["r1"] < both.image.lookup("stack") - 0x1000 * session.cpu
        session.select(1 - session.cpu)
        assert session.read_all() != registers.raw
    goes_on(both, 2)


def test_every_cpu_is_mapped(both: Kernel) -> None:
    first, second = wired(both, 2)
    arena = both.header.arena
    assert arena.near is not None
    for at in (arena.virtual, arena.near.start):
        assert f"{at:#018x}" in first
    assert first == second


@pytest.mark.parametrize("via", ["auto", "trap"])
def test_no_hit_of_either_is_lost(both: Kernel, via: str) -> None:
    with both.patch("step", count=True, via=via) as patch:

        def counts() -> tuple[int, ...]:
            goes_on(both, 2)
            with both.stopped():
                traps = sum(word(both, "traps", number) for number in CPUS)
                return patch.hits or 0, traps, *steps(both)

        before, after = counts(), counts()
        hits, traps, *made = (new - old for new, old in zip(after, before, strict=True))
        assert all(made)
        assert abs(hits - sum(made)) <= 2
        assert abs(traps - sum(made)) <= 2  # the kernel's own
        assert both.verify().ok
    goes_on(both, 2)


def test_patches_come_and_go_while_both_are_inside(both: Kernel) -> None:
    emptied(both)
    text = both.qemu.ram.read(0, 0x2000)
    sites = [both.image.lookup(name) + 4 * n for name in ("step", "mixed") for n in range(2)]
    for number in range(6):
        both.patch_all(sites, count=True, via="trap" if number % 3 == 2 else "auto")
        both.remove_all()
    emptied(both)
    assert both.qemu.ram.read(0, 0x2000) == text
    assert both.verify().ok
    goes_on(both, 2)
    assert "own: wrong" not in "".join(both.qemu.console.lines())


def test_both_come_back_with_a_snapshot(both: Kernel) -> None:
    emptied(both)
    with both.patch("step", count=True) as patch:
        goes_on(both, 2)
        before = patch.hits  # ahead of the snapshot: behind it they go on for as long as the host likes
        both.snapshot("inside")
        goes_on(both, 2)
        both.restore("inside")
        goes_on(both, 2)
        assert patch.hits is not None
        assert before is not None
        assert patch.hits > before
        ticks = word(both, "ticks")
        while word(both, "ticks") < ticks + 4:
            assert both.alive
    goes_on(both, 2)
    assert both.verify().ok


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_rounds_of_counting_on_both(both: Kernel) -> None:
    """Each patch counts exactly what both CPUs do, and is taken out with both inside."""
    for number in range(500):
        patch = both.patch("step", count=True, via=("auto", "trap")[number % 2])

        def counts(hits: Patch = patch) -> tuple[int, int]:
            with both.stopped():
                return hits.hits or 0, sum(steps(both))

        before = counts()
        goes_on(both, 2)
        hits, made = (new - old for new, old in zip(counts(), before, strict=True))
        assert abs(hits - made) <= 2, number
        both.remove(patch.id)
    emptied(both)
    assert both.verify().ok
    goes_on(both, 2)
    assert "own: wrong" not in "".join(both.qemu.console.lines())


def test_a_thread_is_lent_while_the_other_runs(both: Kernel) -> None:
    step, unused = both["step"], both.image.lookup("unused")
    calls = KernelCalls(both.qemu, lambda: both.debugger, E500(), 96 << 20, lambda at: at - 0xC000_0000)
    gate, place = Gate(unused, unused - 0xC000_0000), Window(step.address, step.end)
    with both.qemu.exclusive(10):
        calls.prepare()
        values = [calls.call(step.address, (number,), place, gate, 30) for number in (5, 0xFFFF_FFFF)]
    assert values == [(number * 1664525 + 1013904223) & 0xFFFF_FFFF for number in (5, 0xFFFF_FFFF)]
    goes_on(both, 2)
    assert both.verify().ok
