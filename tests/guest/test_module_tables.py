"""What a kernel looks up or rewrites in a module's code is known, and what is called free there is free."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.isa.decode import Kind
from kgdbpatch.kernel import Kernel
from kgdbpatch.patch.request import PatchRequest

from .junk import junk
from .test_modules import obeyed

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.soak]

COUNT = PatchRequest(count=True)
SUMS = (7, 0, 0, 0xFFFF_FFFF, 0, 0x55, 0, 0)  # what tables_switch makes of 0 (images/linux/modules/tables.c)
TOLD = re.compile(r"tables: (\d+) calls, (\d+) faults, (\d+) detours, sum (\d+)")


@pytest.fixture
def loaded(kernel: Kernel) -> Iterator[Kernel]:
    obeyed(kernel, "insmod /lib/tables.ko")
    yield kernel
    for module in kernel.modules():
        obeyed(kernel, f"rmmod {module.name}")
    kernel.remove_all()


def sites(kernel: Kernel) -> list[int]:
    functions = kernel.functions("tables:*")
    return [at for function in functions for at in range(function.address, function.end, 4)]


def refused(kernel: Kernel, rule: str) -> dict[int, str]:
    """Return the instructions of the module that a rule forbids."""
    found = {}
    for site in sites(kernel):
        told = kernel.check(site, count=True)
        if told.rule == rule:
            found[site] = kernel.image.symbolize(site)
    return found


def wait_for_calls(kernel: Kernel, least: int) -> None:
    """Have the guest do something until its timer came so often; a busy host gives it few clock ticks."""
    place = kernel.image.lookup("calls")
    before = now = int.from_bytes(kernel.read_virtual(place, 4), "big")
    while now < before + least:
        obeyed(kernel, "read /sys/module/tables/parameters/calls")
        now = int.from_bytes(kernel.read_virtual(place, 4), "big")


def unloaded(kernel: Kernel) -> tuple[int, int, int]:
    """Take the module out; return its calls, faults and detours, which must fit what it has summed up."""
    said = obeyed(kernel, "rmmod tables")
    match = next(match for line in said if (match := TOLD.search(line)))
    calls, faults, detours, total = map(int, match.groups())
    assert faults == calls // 2
    assert total == sum(SUMS[call & 7] for call in range(1, calls + 1)) & 0xFFFF_FFFF
    return calls, faults, detours


def test_its_tables_are_found(loaded: Kernel) -> None:
    faulting = refused(loaded, "fault table")
    reads = loaded["tables:tables_read"]
    (site,) = (at for at in faulting if at in reads)
    assert loaded.site_checker.instruction(site).kind is Kind.LOAD
    rewritten = refused(loaded, "rewritten")
    detour = loaded["tables:tables_detour"]
    labels = [loaded.check(at).reason or "" for at in rewritten if at in detour]
    assert sum("jump" in reason or "switches" in reason for reason in labels) == 1
    entries = [at for at in rewritten if "traces functions" in (loaded.check(at).reason or "")]
    assert {loaded.image.function_at(at) for at in entries} == {*loaded.functions("tables:*")} - {
        loaded["tables:tables_exit"]  # notrace: it is in .exit.text
    }


@pytest.mark.parametrize("turned", ["0", "1"])
def test_every_instruction_counts(loaded: Kernel, turned: str) -> None:
    obeyed(loaded, f"write /sys/module/tables/parameters/turn {turned}")
    batch = loaded.patch_all(sites(loaded), COUNT)
    assert {no.rule for no in batch.refused} <= {"fault table", "rewritten", "data"}
    assert len(batch.patches) > 4 * len(batch.refused)
    obeyed(loaded, "write /sys/module/tables/parameters/turn 1")
    wait_for_calls(loaded, 20)
    obeyed(loaded, "write /sys/module/tables/parameters/turn 0")
    wait_for_calls(loaded, 20)
    assert loaded.verify().ok
    hits = {patch.site: patch.hits for patch in loaded.patches}
    ways = loaded["tables:tables_switch"]
    assert sum(1 for site in hits if site in ways and hits[site]) > 20  # of all its cases
    _, _, detours = unloaded(loaded)
    assert detours > 0


def test_what_is_called_free_is_free(loaded: Kernel) -> None:
    def free(site: int) -> tuple[str, ...]:
        try:
            return loaded.live(site).free
        except Refused:
            return ()

    payloads = {site: junk(free(site), loaded.image.abi) for site in sites(loaded)}
    batch = loaded.patch_each({site: payload for site, payload in payloads.items() if payload})
    assert len(batch.patches) > 50
    obeyed(loaded, "write /sys/module/tables/parameters/turn 1")
    wait_for_calls(loaded, 100)
    reached = sum(1 for patch in loaded.patches if patch.hits)
    assert reached > 40
    unloaded(loaded)
    position = loaded.log.position()
    assert loaded.log.wait(r"selfcheck: \d+ ok, 0 bad", since=position, deadline=120)


def test_which_registers_a_fix_up_reads(loaded: Kernel) -> None:
    """The load may be gone on from at its fix-up: what is read there is live before it."""
    reads = loaded["tables:tables_read"]
    (site,) = (at for at in refused(loaded, "fault table") if at in reads)
    with pytest.raises(Refused):
        loaded.patch(site, COUNT)
    before = loaded.patch(site - 4, COUNT)
    wait_for_calls(loaded, 4)
    assert before.hits
    unloaded(loaded)
