"""Who holds a removed patch is told, and what lies below a sleeper holds nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

from .parts import arena, personality, threads
from .work import beat, empty

FEW = 4  # sleeping threads
USER = 0x4000  # MSR: PR
LONG_NAP = """
extern void {sleep};
void nap(void) {{ static int once; if (!once++) {call}; }}
"""


@pytest.mark.parametrize(
    ("site", "sleep", "call", "thread"),
    [
        pytest.param(
            "sys_getpid",
            "delay_ticks(int)",
            "delay_ticks(300)",
            "selftest",
            marks=pytest.mark.kernel("darwin"),
        ),
        pytest.param(
            "udp_sendmsg",
            "msleep(unsigned)",
            "msleep(3000)",
            "udp",
            marks=[pytest.mark.kernel("linux"), pytest.mark.linux],
        ),
    ],
)
def test_who_holds_a_removed_patch_is_told(
    kernel: Kernel, tmp_path: Path, site: str, sleep: str, call: str, thread: str
) -> None:
    source = tmp_path / "nap.c"
    source.write_text(LONG_NAP.format(sleep=sleep, call=call))
    sleeper = kernel.patch(site, c=source)
    room, until = arena(kernel), time.monotonic() + 60
    while not room.table().entered().any():
        assert time.monotonic() < until
    assert kernel.remove(sleeper.id) == [sleeper.id]
    (patch,) = kernel.patches
    assert patch.state == "retired"
    at, holder = next((holder.at, holder) for holder in patch.held_by if holder.at is not None)
    assert sleeper.body <= holder.address < sleeper.body + kernel.records()[0].body_size
    assert int.from_bytes(kernel.read_virtual(at, 4), "big") == holder.address
    assert holder.by in thread.split()
    while any(patch.id == sleeper.id for patch in kernel.patches):  # the next commands collect it
        assert time.monotonic() < until
        kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
        with kernel.patch(site, count=True):
            pass
    empty(kernel)


@pytest.mark.parametrize(
    "site",
    [
        pytest.param("run_netisr", marks=pytest.mark.kernel("darwin")),
        pytest.param("udp_sendmsg", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
def test_what_lies_below_a_sleeper_holds_nothing(kernel: Kernel, site: str) -> None:
    """An interrupt's frame that a thread has left behind looks like one it comes back to."""
    profile, image = personality(kernel), kernel.image
    with kernel.patch(site, count=True) as patch, kernel.stopped() as session:
        frame = patch.body.to_bytes(4, "big") + (0x9032).to_bytes(4, "big")
        sp, msr = (session.registers()[name] for name in ("r1", "msr"))
        left = 0
        for thread in threads(kernel).all():
            physical = profile.stack_physical(image, thread.stack.start)
            running = thread.stack.start <= sp < thread.stack.end and not msr & USER
            if left < FEW and physical is not None and thread.sp - thread.stack.start > 512 and not running:
                session.write_physical(physical + 256, frame)
                left += 1
    assert left == FEW
    until = time.monotonic() + 60
    while kernel.patches:  # the CPU may be in the patch, between two stacks, or on one of these
        assert time.monotonic() < until, kernel.patches
        kernel.remove_all()
    assert kernel.arena_used == 0
    beat(kernel)
