"""A kernel of one's own on an e500, mapped by TLB1, no real mode: booted, patched, read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kgdbpatch.component.kernel_calls import Gate, KernelCalls
from kgdbpatch.cpu.booke import E500
from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.personality.base import Window

from .own_e500 import booted, goes_on, program, word


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel.boot(booted("own-e500", program(tmp_path_factory.mktemp("own")), 1)) as kernel:
        yield kernel


def test_a_payload_in_assembler_acts(own: Kernel) -> None:
    with own.patch("step", asm="lis r12,seen@ha; stw r3,seen@l(r12)") as patch:
        goes_on(own)
        first = word(own, "seen")
        assert first
        assert [row.id for row in own.patch_table()] == [patch.id]
        assert own.verify().ok
    goes_on(own)
    own.remove_all()  # collects what a thread was in
    assert own.patch_table() == []
    assert own.verify().ok


def test_counts_are_exact(own: Kernel) -> None:
    """The kernel counts its steps itself."""
    with own.patch("step", count=True) as patch, own.patch("mixed", count=True) as other:

        def counts() -> tuple[int, ...]:
            goes_on(own)
            with own.stopped():
                return patch.hits or 0, other.hits or 0, word(own, "steps")

        before, after = counts(), counts()
        first, second, third = (new - old for new, old in zip(after, before, strict=True))
        assert third > 0
        assert abs(first - third) <= 1
        assert abs(second - third) <= 1


def test_a_payload_in_c_is_compiled_for_the_cpu(own: Kernel) -> None:
    source = r'void put(const char *); static int n; void probe(void) { if (!n++) put("own: probed\n"); }'
    since = own.qemu.console.position()
    with own.patch("step", c=source):
        own.qemu.console.wait("own: probed", since=since)
        goes_on(own)


def test_instructions_of_book_e_are_sites(own: Kernel) -> None:
    """What an e500 alone has is moved like all others: the kernel checks what they do."""
    start = own.image.lookup("mixed")
    texts = {at: own.site_checker.instruction(at).written_for("e500") for at in range(start, start + 16, 4)}
    sites = [at for at, text in texts.items() if text.split()[0] in ("wrteei", "isel")]
    assert len(sites) >= 2, texts
    patches = [own.patch(at, count=True) for at in sites]
    goes_on(own)
    assert all(patch.hits for patch in patches)
    for patch in patches:
        patch.remove()
    assert "own: wrong" not in "".join(own.qemu.console.lines())


def test_what_is_not_there_yet_is_refused_by_name(own: Kernel) -> None:
    with pytest.raises(Refused, match="uses SPE"):
        own.patch("step", asm="evor r12,r12,r12")
    with pytest.raises(BadPatch, match="may not return or jump away"):
        own.patch("step", asm="rfci")
    assert own.verify().ok


def test_a_trap_leads_to_the_patch_and_leaves_no_trace(own: Kernel) -> None:
    """The kernel's own traps, one for each step, are its own all the time."""
    with own.stopped():
        text = own.qemu.ram.read(0, 0x2000)
    first, second = (own.patch("step", count=True, via="trap") for _ in range(2))
    assert [patch.entry for patch in (first, second)] == ["trap", "trap"]

    def counts() -> tuple[int, ...]:
        goes_on(own)
        with own.stopped():
            return first.hits or 0, second.hits or 0, word(own, "traps"), word(own, "steps")

    before, after = counts(), counts()
    *counted, steps = (new - old for new, old in zip(after, before, strict=True))
    assert steps > 0
    assert all(abs(one - steps) <= 1 for one in counted), (counted, steps)
    assert own.verify().ok
    second.remove()
    goes_on(own)
    first.remove()
    goes_on(own)
    own.remove_all()
    assert own.qemu.ram.read(0, 0x2000) == text
    assert own.verify().ok


def test_every_register_arrives_as_it_was(own: Kernel) -> None:
    with own.patch("step", asm="nop", via="trap") as patch, own.stopped() as session:
        for _ in range(3):
            before = session.run_to(own.image.lookup("step"), 30)
            after = session.run_to(patch.body, 30)
            before["pc"] = patch.body
            assert after.raw == before.raw


def test_memory_is_read_as_the_cpu_maps_it(own: Kernel) -> None:
    at = own.image.lookup("step")
    assert own.read_virtual(at, 8) == own.image.read(at, 8)


def test_the_kernels_own_functions_can_be_called(own: Kernel) -> None:
    """The thread that is lent comes back through the component's address space, every register as it was."""
    step, unused = own["step"], own.image.lookup("unused")
    calls = KernelCalls(own.qemu, lambda: own.debugger, E500(), 96 << 20, lambda at: at - 0xC000_0000)
    gate, place = Gate(unused, unused - 0xC000_0000), Window(step.address, step.end)
    with own.qemu.exclusive(10):
        calls.prepare()
        values = [calls.call(step.address, (number,), place, gate, 30) for number in (5, 0xFFFF_FFFF)]
    assert values == [(number * 1664525 + 1013904223) & 0xFFFF_FFFF for number in (5, 0xFFFF_FFFF)]
    assert not any(own.qemu.ram.read(unused - 0xC000_0000, 64))
    goes_on(own)
    assert own.verify().ok
