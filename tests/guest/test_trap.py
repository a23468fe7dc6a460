"""Patches entered by a trap: counted, listed, stacked, survived and taken out with their hook."""

from __future__ import annotations

import pytest

from kgdbpatch.component.allocate import Allocator
from kgdbpatch.isa.decode import decode
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.vm.gdb import GRegisters

from .parts import text
from .work import apply_in_vain, beat, empty, hits

SITES = {"darwin": "run_netisr", "linux": "udp_sendmsg"}
both = pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param(
            "linux",
            marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.xdist_group("linux")],
        ),
    ],
)


def run_through(kernel: Kernel, applied: Patch) -> None:
    """Let the guest run through a patch once more."""
    with kernel.stopped() as session:
        for place in (applied.body, applied.site, applied.body):
            session.run_to(place, 60)


def entry(kernel: Kernel, profile: str) -> int:
    """Return where a patch for the function's first instruction stands."""
    return kernel.site_checker.entry(kernel.resolve(SITES[profile]))


def vector_page(kernel: Kernel) -> bytes:
    """Return the physical page with the vectors, as it is."""
    return kernel.qemu.ram.read(0, 0x1000)


@both
def test_a_trap_leads_to_the_patch_and_leaves_no_trace(kernel: Kernel, profile: str) -> None:
    page, site = vector_page(kernel), entry(kernel, profile)
    applied = kernel.patch(site, count=True, via="trap")
    assert applied.entry == "trap"
    assert applied.springboard is None
    spliced = int(text(kernel).raw_words(site, 1)[0])
    assert decode(spliced, site).mnemonic == "twi"
    run_through(kernel, applied)
    first = hits(applied)
    run_through(kernel, applied)
    assert 0 < first < hits(applied)
    beat(kernel)
    assert [(patch.state, patch.entry) for patch in kernel.patches] == [("active", "trap")]
    assert kernel.verify().ok

    hook = kernel.header.hook
    assert hook is not None
    assert vector_page(kernel) != page
    assert kernel.words(hook.vector, 64).tobytes() != text(kernel).raw_words(hook.vector, 64).tobytes()
    empty(kernel)
    assert kernel.header.hook is None
    assert vector_page(kernel) == page
    beat(kernel)
    assert (kernel.verify().ok, kernel.patches) == (True, [])


@both
def test_every_register_arrives_as_it_was(kernel: Kernel, profile: str) -> None:
    site = entry(kernel, profile)
    with kernel.patch(site, asm="nop", via="trap") as applied, kernel.stopped() as session:
        for _ in range(5):
            at_site = session.run_to(site, 30)
            before = GRegisters(at_site.raw)
            after = session.run_to(applied.body, 30)
            assert after["pc"] == applied.body
            before["pc"] = after["pc"]
            assert after.raw == before.raw


@both
def test_patches_at_one_site_each_by_a_trap(kernel: Kernel, profile: str) -> None:
    site = SITES[profile]
    one, two, three = (kernel.patch(site, count=True, via="trap") for _ in range(3))
    run_through(kernel, one)
    assert all(patch.hits for patch in (one, two, three))
    two.remove()  # from between
    run_through(kernel, one)
    assert (kernel.verify().ok, kernel.verify().patched) == (True, 1)
    three.remove()  # from the top: traps lead to the oldest again
    counted = hits(one)
    run_through(kernel, one)
    assert hits(one) > counted
    beat(kernel)
    empty(kernel)
    assert (kernel.patches, kernel.header.hook) == ([], None)
    assert kernel.verify().ok


@both
@pytest.mark.panics
def test_a_trap_of_the_kernels_own_is_the_kernels(kernel: Kernel, profile: str) -> None:
    """Processes of darwin's workload trap all the time; here the kernel itself does, and dies of it."""
    counted = kernel.patch(SITES[profile], count=True, via="trap")
    run_through(kernel, counted)
    assert counted.hits
    mark = kernel.log.position()
    applied = kernel.patch(SITES[profile], asm="trap")
    panic = kernel.qemu.console.wait(f"(?i)(NIP|PC)[:=] *(0x)?({applied.body:08x})", 60, since=mark)
    assert panic is not None


def test_a_failed_apply_leaves_no_hook(kernel: Kernel) -> None:
    page = vector_page(kernel)
    apply_in_vain(kernel, ["run_netisr+4", "run_netisr"], via="trap")
    assert (kernel.patches, vector_page(kernel)) == ([], page)
    assert kernel.verify().ok
    with kernel.patch("run_netisr", count=True, via="trap") as older:
        apply_in_vain(kernel, ["run_netisr"], via="trap")
        run_through(kernel, older)
        assert older.hits
        assert kernel.verify().ok


def test_hundreds_of_traps(kernel: Kernel) -> None:
    page = vector_page(kernel)
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text"]
    sites = functions[::4]  # at all of them the guest would take a minute to a beat
    batch = kernel.patch_all(sites, count=True, via="trap")
    assert len(batch.ids) > 0.9 * len(sites) > 100
    assert {patch.entry for patch in batch.patches} == {"trap"}
    beat(kernel)
    assert sum(1 for patch in kernel.patches if patch.hits) > 50
    assert kernel.verify().ok
    empty(kernel)
    assert (kernel.patches, vector_page(kernel)) == ([], page)


def test_a_trap_is_the_last_resort(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel.patch("run_netisr", count=True) as direct:
        assert direct.entry == "branch"
    monkeypatch.setattr(Allocator, "near", lambda *_: None)
    with kernel.patch("run_netisr", count=True) as through:
        assert through.entry == "springboard"
    monkeypatch.setattr(Allocator, "springboard", lambda *_: None)
    with kernel.patch("run_netisr", count=True) as trapped:
        assert trapped.entry == "trap"
        run_through(kernel, trapped)
        assert trapped.hits
