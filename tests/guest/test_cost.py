"""What a hit costs is counted exactly, and the same each time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import linux, patch
from bench.breakpoint import breakpoint_with_commands
from bench.cost import JOBS
from bench.hit import ICOUNT, hit_cost
from kgdbpatch.errors import Misuse
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

NOPS = 40
HOOK_INSTRUCTIONS = 22  # of a hit in the home entry of the hash table, the vector's branch included


def boot(profile: str, name: str = "count") -> Kernel:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return Kernel.boot(profile, f"pytest-{os.getpid()}-{worker}-{name}-{profile}", icount=ICOUNT)


@pytest.fixture(scope="module")
def darwin() -> Iterator[Kernel]:
    with boot("darwin") as kernel:
        yield kernel


def nops(kernel: Kernel, site: str, count: int) -> tuple[int, int | None, int | None]:
    with kernel.patch(site, asm="nop\n" * count) as applied:
        cost = hit_cost(kernel, site, applied, inline=count, hits=2)
    assert cost.least == cost.most == cost.instructions
    return cost.instructions, cost.glue, cost.payload


def test_an_instruction_alone_costs_nothing(darwin: Kernel) -> None:
    assert len(darwin.trace("run_netisr")) == 1
    assert hit_cost(darwin, "run_netisr", None).instructions == 0


def test_nops_cost_what_they_are(darwin: Kernel) -> None:
    one, glue, payload = nops(darwin, "run_netisr", 1)
    assert payload == 1
    assert glue is not None
    assert one == glue + payload
    assert nops(darwin, "run_netisr", 1 + NOPS) == (one + NOPS, glue, 1 + NOPS)


def test_a_trap_costs_its_hook(darwin: Kernel) -> None:
    with darwin.patch("run_netisr", asm="nop", via="trap") as applied:
        hook = darwin.header.hook
        assert hook is not None
        trace = darwin.trace("run_netisr")
        cost = hit_cost(darwin, "run_netisr", applied, inline=1)
    assert trace[:2] == [applied.site, hook.vector]
    assert trace.index(applied.body) == 1 + HOOK_INSTRUCTIONS
    assert (cost.payload, cost.glue) == (1, HOOK_INSTRUCTIONS + 2), "the trap itself and the way back"


def test_two_runs_give_the_same_figures(darwin: Kernel) -> None:
    first = nops(darwin, "run_netisr", 3)
    with boot("darwin", "other") as other:
        assert nops(other, "run_netisr", 3) == first


def test_glue_is_told_from_payload(darwin: Kernel, tmp_path: Path) -> None:
    figures = []
    for name, body in (("empty", ""), ("nops", '__asm__ volatile("' + "nop\\n" * NOPS + '");')):
        source = tmp_path / f"{name}.c"
        source.write_text(f"void {name}(void)\n{{\n{body}\n}}\n")
        with darwin.patch("run_netisr", c=source) as applied:
            figures.append(hit_cost(darwin, "run_netisr", applied))
    empty, full = figures
    assert empty.payload == 1, "its return"
    assert full.payload == 1 + NOPS
    assert full.glue == empty.glue


@pytest.mark.soak
def test_hits_beside_the_least_they_can_take(darwin: Kernel) -> None:
    rows = patch.hits(darwin, JOBS["darwin"], ["leaf"])
    assert {row.note for row in rows} >= {"LR live", "LR, CR0 free"}
    assert all(row.met for row in rows), rows
    assert darwin.verify().patched == 0


def test_a_breakpoint_stops_the_guest(darwin: Kernel) -> None:
    site, value = darwin.resolve("run_netisr"), f"{{unsigned int}}{darwin.image.lookup('netisr'):#x}"
    found = breakpoint_with_commands(Qemu.attach(darwin.name), site, "netisr value: 0x%08x", value, 5)
    assert found.stops >= 1
    assert found.seconds > 0
    assert found.round_trips > 1
    assert darwin.verify().ok


def test_the_guest_goes_on_after_counting(darwin: Kernel) -> None:
    mark = darwin.log.position()
    darwin.trace("run_netisr")
    assert " 0 bad" in darwin.log.wait("selfcheck", deadline=60, since=mark).message


def test_a_guest_that_does_not_count_says_so(kernel: Kernel) -> None:
    with pytest.raises(Misuse, match="icount"):
        kernel.trace("run_netisr")


@pytest.mark.soak
@pytest.mark.linux
@pytest.mark.xdist_group("linux")
def test_the_loop_counts_like_the_steps_on_linux() -> None:
    with boot("linux") as kernel:
        one = nops(kernel, "udp_sendmsg", 1)[0]
        assert nops(kernel, "udp_sendmsg", 1 + NOPS)[0] == one + NOPS
        averages = []
        for count in (1, 1001):
            with kernel.patch("udp_sendmsg", asm="nop\n" * count), linux.calm(kernel):
                averages.append(linux.udp_instructions(kernel, 3000, loops=3))
        assert averages[1] - averages[0] == pytest.approx(1000, rel=0.02)
