"""A dead client's orders that reach the guest late: the next client plans nothing from before them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse, TargetLost
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

from .cut import Killed, Late, Wire
from .test_cut_points import BEFORE, FEWEST, SITE, agree, carry_on, functions, lives

Work = Callable[[Kernel], object]


def stack_of(count: int) -> Work:
    return lambda kernel: [kernel.patch(SITE, count=True) for _ in range(count)]


def trap(kernel: Kernel) -> object:
    return kernel.patch(SITE, asm="nop", via="trap")


def batch(kernel: Kernel) -> object:
    return kernel.patch_all([SITE, *functions(kernel)[:20]], count=True)


def remove(*places: int) -> Work:
    return lambda kernel: kernel.remove(*(sorted(patch.id for patch in kernel.patches)[at] for at in places))


def remove_listed(kernel: Kernel) -> None:
    """Take out what is listed; by then a dead client's late orders may have freed some of it."""
    listed = {patch.id for patch in kernel.patches}
    try:
        kernel.remove(*listed)
    except Misuse:
        left = {patch.id for patch in kernel.patches}
        if not left < listed:
            raise
        kernel.remove(*left)


def remove_all(kernel: Kernel) -> object:
    return kernel.remove_all()


def restore(kernel: Kernel) -> None:
    kernel.restore(BEFORE)


def snapshot(kernel: Kernel) -> None:
    kernel.snapshot("late")
    remove_all(kernel)
    kernel.restore("late")
    assert kernel.verify().ok


# What the client that dies had begun, from which state; what the next client does first.
LATE: dict[str, tuple[Work, Work]] = {
    "one": (stack_of(0), stack_of(1)),
    "over one": (stack_of(1), stack_of(1)),
    "over two": (stack_of(2), stack_of(1)),
    "trap": (stack_of(0), trap),
    "trap over others": (stack_of(2), trap),
    "batch": (stack_of(1), batch),
    "the newest goes": (stack_of(3), remove(2)),
    "the middle goes": (stack_of(3), remove(1)),
    "the oldest goes": (stack_of(3), remove(0)),
    "two go": (stack_of(4), remove(0, 2)),
    "all go": (stack_of(3), remove_all),
    "a trap goes": (trap, remove_all),
    "a batch goes": (batch, remove_all),
}
NEXT: dict[str, Work] = {
    "remove_all": remove_all,
    "patch": stack_of(1),
    "trap": trap,
    "batch": batch,
    "remove": remove_listed,
    "restore": restore,
    "snapshot": snapshot,
}


class Interleaver:
    """Repeat one pair of operations, the first one's late orders carried out in the second."""

    def __init__(self, kernel: Kernel, start: Work, *, marked: bool = True) -> None:
        """``marked``: the lock tells that its last holder died."""
        self.kernel, self._marked = kernel, marked
        start(kernel)
        kernel.snapshot(BEFORE)
        self.tries = 0

    def _next(self, work: Work, point: str) -> None:
        other = Kernel.attach(self.kernel.name)
        if not self._marked:
            os.truncate(Qemu.attach(self.kernel.name).directory / "lock", 0)
        try:
            work(other)
            agree(other)
            carry_on(other)
            self.tries += 1
            if self.tries % 5 == 0:
                lives(other)
        except BaseException as error:
            error.add_note(f"late {point}")
            raise
        finally:
            other.close()

    def rows(self, late: Late, first: Work, then: Work) -> int:
        """Let the client die in each of its rows; return how many there are."""
        for row in itertools.count():
            self.kernel.restore(BEFORE)
            late.arm(row)
            with suppress(Killed):
                first(self.kernel)
            if not late.killed:
                rows = late.given
                late.arm(None)
                return rows
            self.kernel.close()
            self._next(then, f"row {row}")
        raise AssertionError

    def packets(self, wire: Wire, first: Work, then: Work) -> int:
        """Kill GDB with each of its packets on the way; return how many there are."""
        self.kernel.close()
        for packet in itertools.count():
            self.kernel.restore(BEFORE)
            wire.arm(packet, late=True)
            with pytest.raises(TargetLost, match="GDB") if packet < FEWEST // 2 else suppress(TargetLost):
                first(self.kernel)
            if not wire.cut:
                packets = wire.sent
                wire.arm(None)
                return packets
            self._next(then, f"packet {packet}")
        raise AssertionError


@pytest.fixture
def late() -> Iterator[Late]:
    with Late.rows() as late:
        yield late


@pytest.fixture
def wire(kernel: Kernel, tmp_path: Path) -> Iterator[Wire]:
    with Wire.laid(kernel, tmp_path) as wire:
        yield wire


@pytest.mark.parametrize("marked", [True, False])
def test_a_stack_grows_late(kernel: Kernel, late: Late, marked: bool) -> None:
    start, first = LATE["over two"]
    assert Interleaver(kernel, start, marked=marked).rows(late, first, NEXT["remove_all"]) > 3


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("then", NEXT)
@pytest.mark.parametrize("first", LATE)
def test_late_rows(kernel: Kernel, late: Late, first: str, then: str, marked: bool) -> None:
    start, work = LATE[first]
    assert Interleaver(kernel, start, marked=marked).rows(late, work, NEXT[then]) > 3


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("then", ["remove_all", "patch", "restore"])
@pytest.mark.parametrize("first", LATE)
def test_late_packets(kernel: Kernel, wire: Wire, first: str, then: str) -> None:
    start, work = LATE[first]
    assert Interleaver(kernel, start).packets(wire, work, NEXT[then]) > FEWEST // 2
