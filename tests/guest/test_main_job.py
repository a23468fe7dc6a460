"""The main job: put C code into a running kernel, see it in the syslog, take it out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgdbpatch.isa import encode
from kgdbpatch.kernel import Kernel

from .work import hits

LINE = re.compile(r"^KernMonitor/packet_counter: netisr value: (0x[0-9a-f]{8}) \| (\d+)$")


def quiet(kernel: Kernel, pattern: str, *, beats: int = 2) -> bool:
    """Tell that no line with ``pattern`` comes while the guest prints ``beats`` self-checks."""
    mark, seen = kernel.log.position(), 0
    for line in kernel.log.follow(mark, deadline=30):
        if pattern in line.message:
            return False
        seen += "selfcheck" in line.message
        if seen == beats:
            return True
    raise AssertionError("the guest prints no self-check any more")


def test_packet_counter_on_darwin(kernel: Kernel, examples: Path) -> None:
    text_before = kernel.words(kernel["run_netisr"].address, 16).tolist()
    mark = kernel.log.position()
    applied = kernel.patch("run_netisr", c=examples / "packet_counter.c")
    counts = []
    for line in kernel.log.follow(mark, deadline=30):
        if match := LINE.match(line.message):
            assert line.source == "mach_kernel"
            assert int(match[1], 16) != 0, "a bit is set when the routine runs"
            counts.append(int(match[2]))
        if len(counts) == 5:
            break
    assert counts == sorted(set(counts)), "the count goes up"
    assert hits(applied) >= 5
    assert kernel.verify().ok
    assert [patch.state for patch in kernel.patches] == ["active"]

    applied.remove()
    # lines printed before the removal may still be on their way through the guest's buffer
    quiet(kernel, "selfcheck: never")
    assert quiet(kernel, "packet_counter")
    after = kernel.verify()
    assert after.ok
    assert after.patched == 0
    assert kernel.words(kernel["run_netisr"].address, 16).tolist() == text_before


def test_springboard_on_darwin_is_really_used(kernel: Kernel, examples: Path) -> None:
    applied = kernel.patch("run_netisr", c=examples / "packet_counter.c")
    assert applied.springboard is not None
    assert 0x1000 <= applied.springboard < 0x2000
    assert not encode.branch_reaches(applied.site, applied.body)
    assert not encode.absolute_reaches(applied.body)
    # read back through the CPU's own translation, as instruction fetch sees it
    words = kernel.read_virtual(applied.springboard, 16)
    high, low, to_ctr, branch = (int.from_bytes(words[i : i + 4], "big") for i in range(0, 16, 4))
    register = high >> 21 & 31
    assert [high, low] == encode.load_address(register, applied.body)
    assert (to_ctr, branch) == (encode.mtctr(register), encode.bctr())
    splice = int.from_bytes(kernel.read_virtual(applied.site, 4), "big")
    assert encode.branch_target(applied.site, splice) == applied.springboard


@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.xdist_group("linux")
def test_udp_probe_on_linux(kernel: Kernel, examples: Path) -> None:
    mark = kernel.log.position()
    applied = kernel.patch("udp_sendmsg", c=examples / "udp_probe.c")
    line = kernel.log.wait("udp_probe", deadline=30, since=mark)
    assert line.source == "kernel"
    assert applied.springboard is None
    assert kernel.verify().ok
    applied.remove()
    quiet(kernel, "selfcheck: never")
    assert quiet(kernel, "udp_probe")
    after = kernel.verify()
    assert (after.ok, after.patched) == (True, 0)


def test_patch_is_a_context_manager(kernel: Kernel) -> None:
    with kernel.patch("run_netisr", asm="nop\nnop\n") as applied:
        assert [patch.id for patch in kernel.patches] == [applied.id]
    assert [patch for patch in kernel.patches if patch.state != "retired"] == []
