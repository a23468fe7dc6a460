"""Springboards in the unused tails of the exception vectors (paper, 3.3.4)."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import MemoryFault, Refused
from kgdbpatch.isa import encode
from kgdbpatch.kernel import Kernel

from .work import apply_in_vain, beat, empty, entries


def vectors(kernel: Kernel) -> bytes:
    return kernel.qemu.ram.read(0, 0x1800)


def test_a_springboard_in_a_tail_is_really_used(kernel: Kernel) -> None:
    before = vectors(kernel)
    with kernel.patch("run_netisr", count=True, via="tails") as applied:
        assert applied.entry == "springboard"
        tails = kernel.header.arena.tails
        assert applied.springboard is not None
        assert tails is not None
        physical = applied.springboard - tails.start
        assert 0x100 <= physical < 0x1800
        assert not any(before[physical : physical + 16]), "it was unused"
        # as instruction fetch sees it, at the window; the null page stays unmapped
        code = kernel.read_virtual(applied.springboard, 16)
        words = [int.from_bytes(code[at : at + 4], "big") for at in range(0, 16, 4)]
        register = words[0] >> 21 & 31
        assert words[:2] == encode.load_address(register, applied.body)
        assert words[2:] == [encode.mtctr(register), encode.bctr()]
        splice = int.from_bytes(kernel.read_virtual(applied.site, 4), "big")
        assert encode.branch_target(applied.site, splice) == applied.springboard
        with pytest.raises(MemoryFault):
            kernel.read_virtual(physical & 0xFFF, 4)
        beat(kernel)
        assert applied.hits
        assert kernel.verify().ok
        assert vectors(kernel) != before
    empty(kernel)
    assert vectors(kernel) == before
    assert kernel.verify().ok


def test_tails_are_given_until_none_is_left(kernel: Kernel) -> None:
    before = vectors(kernel)
    hooked = kernel.patch("run_netisr", count=True, via="trap")
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text"]
    batch = kernel.patch_all(functions, count=True, via="tails")
    boards = {patch.springboard for patch in batch.patches if patch.springboard is not None}
    assert len(boards) == len(batch.patches) > 150
    assert {refused.rule for refused in batch.refused} >= {"springboard"}
    hook, tails = kernel.header.hook, kernel.header.arena.tails
    assert hook is not None
    assert tails is not None
    assert not any(hook.at - 16 < board - tails.start < hook.span.stop for board in boards)
    beat(kernel)
    assert kernel.verify().ok
    assert hooked.hits
    empty(kernel)
    assert kernel.patches == []
    assert vectors(kernel) == before
    assert kernel.verify().ok


def test_a_failed_apply_leaves_the_tails_empty(kernel: Kernel) -> None:
    before = vectors(kernel)
    apply_in_vain(kernel, entries(kernel, "vm_*"), via="tails")
    assert vectors(kernel) == before
    assert kernel.patches == []


@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.xdist_group("linux")
def test_linux_needs_none(kernel: Kernel) -> None:
    with pytest.raises(Refused, match="tails"):
        kernel.patch("udp_sendmsg", count=True, via="tails")
