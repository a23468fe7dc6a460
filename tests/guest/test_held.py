"""Who holds the memory of a patch that was removed, and who does not."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

from .parts import arena, threads
from .work import beat, empty

pytestmark = pytest.mark.long

FEW = 4  # sleeping threads
USER = 0x4000  # MSR: PR

LONG_NAP = """
extern void {sleep};
void nap(void) {{ static int once; if (!once++) {call}; }}
"""


def asleep(kernel: Kernel, body: range) -> set[str]:
    """Return the threads of a paused guest that left the CPU in what ``body`` calls."""
    memory, found = threads(kernel), set()
    with kernel.stopped() as session:
        running = session.registers()["r1"]
    for thread in memory.all():
        data = memory.read(thread.sp, thread.stack.end - thread.sp) or b""
        words = struct.unpack(f">{len(data) // 4}I", data)
        if not thread.stack.start <= running < thread.stack.end and any(word in body for word in words):
            found.add(thread.name)
    return found


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
    kernel.pause()  # a thread that runs changes its stack, and one that sleeps has slept out some time
    assert kernel.remove(sleeper.id) == [sleeper.id]
    (record,) = kernel.records()
    body = range(sleeper.body, sleeper.body + record.body_size)
    while thread not in asleep(kernel, body):
        assert time.monotonic() < until
        kernel.resume()  # it is on its way to where it sleeps
        kernel.pause()
    (patch,) = kernel.patches
    assert patch.state == "retired"
    held = [(one.by, one.at, one.address) for one in patch.held_by if one.at is not None]
    assert thread in {by for by, _, _ in held}
    for _, at, address in held:
        assert address in body
        assert int.from_bytes(kernel.read_virtual(at, 4), "big") == address
    kernel.resume()
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
    memory = threads(kernel)
    with kernel.patch(site, count=True) as patch, kernel.stopped() as session:
        frame = patch.body.to_bytes(4, "big") + (0x9032).to_bytes(4, "big")
        sp, msr = (session.registers()[name] for name in ("r1", "msr"))
        left = 0
        for thread in memory.all():
            physical = memory.physical(thread.stack.start)
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
