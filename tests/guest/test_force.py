"""What --force overrides in exception code, and what it never does."""

from __future__ import annotations

from contextlib import suppress

import pytest

from kgdbpatch.cpu.ppc6xx.vectors import VECTORS
from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.patch.request import Asked

from .parts import personality
from .work import beat, empty


def first_site(kernel: Kernel, vector: int) -> int:
    """Return the first instruction of a vector at which enough registers are saved to count."""
    for site in range(vector, vector + 0x100, 4):
        with suppress(Refused):
            return kernel.plan(site, count=True, via="tails", force=True).site
    raise AssertionError(hex(vector))


@pytest.mark.parametrize(
    ("site", "payload", "rule"),
    [
        pytest.param("hw_atomic_add+0x8", {"count": True}, "reservation", id="counting in an lwarx window"),
        pytest.param("run_netisr+2", {"asm": "nop"}, "alignment", id="unaligned"),
        pytest.param("version", {"asm": "nop"}, "data", id="data"),
        pytest.param(0x918, {"count": True}, "untranslated", id="real mode, by a branch"),
        pytest.param(0x918, {"count": True, "via": "trap"}, "exception return", id="real mode, by a trap"),
        pytest.param(0x918, {"call": "log_flush", "via": "tails"}, "untranslated", id="a call in real mode"),
        pytest.param(0x900, {"count": True, "via": "tails"}, "stack", id="where nothing is saved yet"),
        pytest.param(
            "exception_exit", {"asm": "nop", "via": "tails"}, "exception code", id="not in real mode"
        ),
    ],
)
def test_what_no_force_overrides(kernel: Kernel, site: str | int, payload: Asked, rule: str) -> None:
    asked: Asked = {**payload, "force": True}
    with pytest.raises(Refused) as refused:
        kernel.patch(site, **asked)
    assert refused.value.rule == rule
    assert kernel.patches == []


def test_exception_code_is_counted_by_force(kernel: Kernel) -> None:
    """Each exception passes one vector, then the code that all of them share."""
    ram = kernel.qemu.ram
    every = VECTORS.places(personality(kernel), kernel.image)
    shared, end = max(every) + 0x100, kernel["exception_exit"].end
    before = ram.read(0, end)
    sites = [first_site(kernel, vector) for vector in every]
    with pytest.raises(Refused, match="is reached from an exception vector and may run with address tr"):
        kernel.patch(sites[0], count=True, via="tails")
    batch = kernel.patch_all([*sites, *range(shared, end, 4)], count=True, via="tails", force=True)
    made = {patch.site: patch for patch in batch.patches}
    assert all(patch.forced == ("untranslated",) for patch in batch.patches)
    assert made.keys() >= set(sites)
    assert len(made) > len(sites) + 20
    beat(kernel, 2)
    assert kernel.verify().ok
    listed = kernel.patches
    assert all(patch.forced for patch in listed)
    kernel.pause()
    hits = {patch.site: patch.hits or 0 for patch in kernel.patches}
    kernel.resume()
    by_vector = [hits[site] for site in sites]
    assert sum(1 for count in by_vector if count) > 2  # faults, interrupts, system calls
    behind = [count for site, count in hits.items() if shared <= site < kernel.resolve("exception_exit")]
    assert max(behind) - min(behind) <= 1  # the CPU may be on its way
    assert 0 <= sum(by_vector) - min(behind) <= 1
    empty(kernel)
    assert kernel.patches == []
    assert ram.read(0, end) == before
    beat(kernel)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_exception_code_of_linux_is_left_alone(kernel: Kernel) -> None:
    vector = VECTORS.places(personality(kernel), kernel.image)[0]
    with pytest.raises(Refused, match="not on every kernel") as refused:
        kernel.patch(vector, asm="nop", force=True)
    assert refused.value.rule == "untranslated"


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_code_that_only_an_unknown_branch_leads_to_is_patched_by_force(kernel: Kernel) -> None:
    """Linux's put_fpr and its like jump into a row of instructions by a computed address."""
    doubtful = []
    for function in kernel.image.functions:
        for site in range(function.address, function.end, 4) if function.name.endswith("_fpr") else ():
            with suppress(Refused):
                if kernel.plan(site, count=True, force=True).forced == ("data",):
                    doubtful.append(site)
    assert len(doubtful) > 60
    with pytest.raises(Refused, match="--force") as refused:
        kernel.patch(doubtful[0], count=True)
    assert refused.value.rule == "data"
    batch = kernel.patch_all(doubtful, count=True, force=True)
    assert {patch.forced for patch in batch.patches} == {("data",)}
    assert {patch.forced for patch in kernel.patches} == {("data",)}
    assert kernel.verify().ok
    empty(kernel)
