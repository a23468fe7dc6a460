"""What every kernel must do on every board (`scripts/test --zoo`): a check a column, a guest a row."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from guest.junk import junk

from kgdbpatch.component import layout
from kgdbpatch.errors import Refused
from kgdbpatch.kernel import analyses
from kgdbpatch.kernel.guest_doctor import examine

from .cells import CELLS, Cell, Guest, running

pytestmark = [pytest.mark.zoo, pytest.mark.timeout(1800)]

FUNCTIONS, BLOCKS_OF, SITES, ROUNDS = 1000, 200, 2000, 500
NOT_BY_GDB_ALONE = {"hangs", "resets", "snapshots"}  # of what `doctor` tells, without a monitor
FAMILIES = {"750": "ppc6xx", "7400": "ppc6xx", "e500v2": "e500", "440epb": "440"}
# called by the workloads as processes, where printing is allowed
CALLED = {
    "linux": ["udp_sendmsg", "vfs_read", "do_wait", "udp_recvmsg", "vfs_write", "path_openat"],
    "darwin": ["run_netisr", "ip_input", "vm_fault"],
}
PRINT = {"linux": ("_printk", "printk"), "darwin": ("printf",)}
PROBE = """
static int printed;
void probe(void) {{
    int (*print)(const char *, ...) = (int (*)(const char *, ...))0x{print:x};
    if (printed++ < 2) print("{level}zoo {tag} hit %d\\n", printed);
}}
"""


@pytest.fixture(scope="module", params=CELLS, ids=str)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    cell: Cell = request.param
    with running(cell) as found:
        yield found


@pytest.fixture(autouse=True)
def as_before(guest: Guest) -> Iterator[None]:
    """Take out what a check has put in, and see that the guest has noticed nothing."""
    yield
    until = time.monotonic() + 120
    while guest.kernel.remove_all():
        assert time.monotonic() < until, guest.kernel.patches
        beat(guest)
    assert guest.kernel.arena_used == 0
    verified = guest.kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
    beat(guest, 2)


def beat(guest: Guest, times: int = 1, told: Callable[[], object] = lambda: None) -> None:
    """Let the guest check its own work, without a failure."""
    log = guest.kernel.log
    for _ in range(times):
        line = log.wait("selfcheck: |panic|Oops|BUG", deadline=240, since=log.position())
        assert line.message.rstrip().endswith(" 0 bad"), (line, told())


def system(guest: Guest) -> str:
    return guest.cell.recipe.personality.name


def some(sites: Sequence[int], count: int) -> list[int]:
    return random.Random(1).sample(sites, min(count, len(sites)))


def reached(guest: Guest) -> set[int]:
    return {patch.site for patch in guest.kernel.patches if patch.hits}


def hot(guest: Guest) -> list[int]:
    """Return the functions that the workload runs, of those that may be counted, as many at once as fit."""
    text, found = guest.text(), set[int]()
    most = layout.records(guest.kernel.header.arena.size)
    for start in range(0, len(text), most):
        guest.kernel.patch_all(text[start : start + most], count=True)
        beat(guest, 5)
        found |= reached(guest)
        while guest.kernel.remove_all():
            beat(guest)
    return sorted(found)


def test_doctor(guest: Guest) -> None:
    told = {trait.topic: trait for trait in examine(guest.kernel.name)}
    without = NOT_BY_GDB_ALONE if guest.cell.way == "attached" else set()
    without = without | ({"snapshots"} if guest.cell.cpu == "440epb" else set())  # QEMU loads none back
    by_symbols = {"threads"} if guest.cell.way == "stripped" else set()  # which the kernel may keep of itself
    assert without <= {topic for topic, trait in told.items() if not trait.works} <= without | by_symbols
    assert FAMILIES[guest.cell.cpu] in told["cpu"].found
    assert f"{guest.cell.smp} of them" in told["cpu"].found
    assert system(guest) in told["kernel"].found


def test_probe(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    kernel = guest.kernel
    known = {function.name.lstrip("_") for function in guest.names.functions}
    print_at = next(guest.address(name) for name in PRINT[system(guest)] if guest.names.knows(name))
    level = "\\0016" if system(guest) == "linux" else ""
    seen = 0
    for name in CALLED[system(guest)]:
        if name in known and seen < 3:
            mark = kernel.log.position()
            with kernel.patch(guest.address(name), c=PROBE.format(print=print_at, level=level, tag=name)):
                kernel.log.wait(f"zoo {name} hit", deadline=120, since=mark)
            seen += 1
    assert seen == 3
    record_property("zoo", f"{seen} logged")


def test_counts(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    chosen = some(guest.text(), FUNCTIONS)
    batch = guest.kernel.patch_all(chosen, count=True)
    assert len(batch.patches) > 0.9 * len(chosen), {refusal.rule for refusal in batch.refused}
    verified = guest.kernel.verify()
    assert (verified.ok, verified.patched) == (True, len(batch.patches))
    beat(guest, 2)
    run = reached(guest)
    assert len(run) > 30
    record_property("zoo", f"{len(batch.patches)}, {len(run)} run")


def test_blocks(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    liveness = analyses.liveness(guest.kernel.image)
    first = set(liveness.program.address[liveness.blocks.first].tolist())
    chosen = some(guest.text(), BLOCKS_OF)
    functions = [guest.names.function_at(address) for address in chosen]
    sites = [at for f in functions if f for at in range(f.address, f.end, 4) if at in first]
    batch = guest.kernel.patch_all(sites, count=True)
    assert len(batch.patches) > 0.9 * len(sites), {refusal.rule for refusal in batch.refused}
    beat(guest, 2)
    assert guest.kernel.verify().patched == len(batch.patches)
    record_property("zoo", f"{len(batch.patches)} of {len(sites)}")


def test_trap(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    site = guest.address(CALLED[system(guest)][0])
    patch = guest.kernel.patch(site, count=True, via="trap")
    while not guest.kernel.find_patch(patch.id).hits:
        beat(guest)
    record_property("zoo", f"{guest.kernel.find_patch(patch.id).hits} hits")


def test_free_registers(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    """Overwrite each register called free, at sites half of which are in functions that run."""
    rng = random.Random(1)

    def places(functions: Iterable[int]) -> list[int]:
        around = [guest.names.function_at(address) for address in functions]
        every = [at for f in around if f is not None for at in range(f.address, f.end, 4)]
        rng.shuffle(every)
        return every

    drawn = itertools.chain.from_iterable(
        zip(places(hot(guest)), places(some(guest.text(), 1000)), strict=False)
    )
    payloads = {}
    for site in drawn:
        try:
            payload = junk(guest.kernel.live(site).free, guest.kernel.image.abi)
        except Refused:
            continue
        if payload is not None:
            payloads[site] = payload
        if len(payloads) == SITES:
            break
    batch = guest.kernel.patch_each(payloads)
    beat(guest, 5, lambda: "a register called free was not: look at test_free_registers of tests/guest")
    run = reached(guest)
    assert len(batch.patches) > 0.9 * SITES
    record_property("zoo", f"{len(batch.patches)}, {len(run)} run")


def test_rounds(guest: Guest, record_property: Callable[[str, object], None]) -> None:
    sites = itertools.cycle(some(hot(guest), 20))
    for _ in range(ROUNDS):
        kernel = guest.kernel
        patch = kernel.patch(next(sites), count=True)
        kernel.remove(patch.id)
    record_property("zoo", f"{ROUNDS}")
