"""Two hundred functions at once, under load: every exit is paired with its entry, every result is right."""

from __future__ import annotations

import time

import pytest

from kgdbpatch.kernel import Kernel

from .pairs import Judge, calls_of
from .work import beat, empty

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

ROUNDS = 5
BUSY = {"darwin": "run_netisr", "linux": "udp_sendmsg"}
# The idle thread never gets deeper, nor does it return: what an interrupt has left on its stack stays there
# for long, and keeps the memory of a patch of what it always calls.
IDLE = {"darwin": ("machine_idle",), "linux": ()}


@pytest.fixture(
    params=[
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ]
)
def guest(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def busy_functions(kernel: Kernel) -> list[int]:
    """Return the functions that run under load and are called directly, those most often run first."""
    batch = kernel.patch_all([function.address for function in kernel.functions("*")], count=True)
    beat(kernel, 2)
    counted = {row.id: row.hits or 0 for row in kernel.patch_table()}
    run = {patch.site: counted[patch.id] for patch in batch.patches if counted[patch.id]}
    empty(kernel)
    functions = {function.address for function in kernel.functions("*")}
    called = calls_of(kernel, run.keys() & functions)
    return sorted((at for at, calls in called.items() if calls), key=lambda at: -run[at])


def test_two_hundred_functions_under_load(kernel: Kernel, guest: str) -> None:
    idle = {kernel[name].address for name in IDLE[guest]}
    functions = [at for at in busy_functions(kernel) if at not in idle][:280]
    judge = Judge(kernel, BUSY[guest], functions)
    assert len(judge.exits) >= 200
    for _ in range(ROUNDS):
        beat(kernel, 4)
        rows = [row for row in kernel.patch_table(calls=True) if row.exits is not None]
        judged = judge.judged()
        total = {
            name: sum(getattr(row, name) or 0 for row in rows)
            for name in ("hits", "exits", "inside", "unreturned")
        }
        print(f"{guest}: {len(rows)} functions, {judge.sites} call sites, {total}, {judged}")
        for row in rows:
            if row.unreturned:
                print("  ", kernel.image.symbolize(row.site), row.hits, row.exits, row.inside, row.unreturned)
            assert row.hits == (row.exits or 0) + (row.inside or 0) + (row.unreturned or 0)
        assert judged.wrong == 0
        assert judged.matched > 1000
    until = time.monotonic() + 600  # thousands of patches, each of which a thread may be asleep in
    while kernel.remove_all():
        assert time.monotonic() < until, f"still referenced: {kernel.patches}"
        beat(kernel)
    assert kernel.verify().ok
