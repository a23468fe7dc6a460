"""A change of the guest, cut off at every point there is, leaves what another client can go on with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.errors import Refused, TargetLost
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.planner import Planned
from kgdbpatch.patch.request import PatchRequest

from . import parts
from .cut import Killed, Orders, Wire

pytestmark = pytest.mark.long

BEFORE = "before-cuts"
SITE, FUNCTIONS = "run_netisr", 60
FEWEST = 30  # packets of any change
LIVES = 5  # cuts of which the last is followed until the guest has checked itself


def functions(kernel: Kernel) -> list[int]:
    return [function.address for function in kernel.image.functions if function.section == "__TEXT,__text"]


def nothing(_: Kernel) -> None:
    pass


def patched(kernel: Kernel) -> None:
    kernel.patch_all(functions(kernel)[:FUNCTIONS], count=True)
    kernel.patch(SITE, asm="nop")


def stacked(kernel: Kernel) -> None:
    for _ in range(3):
        kernel.patch(SITE, count=True)


def counters(kernel: Kernel) -> Planned:
    """Plan counters at some functions."""
    planner = parts.planner(kernel)
    payload = planner.payload(PatchRequest(count=True))
    return planner.plan_sites((at, payload) for at in functions(kernel)[FUNCTIONS : 3 * FUNCTIONS])[0]


def apply(kernel: Kernel) -> Callable[[], object]:
    """Bodies of more than one packet, a batch planned once."""
    component, header = parts.component(kernel), kernel.header
    planned = counters(kernel)
    return lambda: component.apply(header, planned)


def refused(kernel: Kernel) -> Callable[[], object]:
    """A batch whose last site holds another word than planned: all the others are taken back."""
    component, header = parts.component(kernel), kernel.header
    planned = counters(kernel)
    slot, last = max(planned, key=lambda entry: entry[0])
    other = [entry for entry in planned if entry[0] != slot]
    wrong = [*other, (slot, last._replace(original=last.original ^ 1))]

    def make() -> None:
        with pytest.raises(Refused, match="expected"):
            component.apply(header, wrong)

    return make


def remove(kernel: Kernel) -> Callable[[], object]:
    ids = [patch.id for patch in kernel.patches]
    return lambda: kernel.remove(*ids)


def remove_the_middle(kernel: Kernel) -> Callable[[], object]:
    middle = sorted(patch.id for patch in kernel.patches)[1]
    return lambda: kernel.remove(middle)


@dataclass(frozen=True)
class Change:
    """What is done to the guest, from which state."""

    start: Callable[[Kernel], None]
    planned: Callable[[Kernel], Callable[[], object]]


CHANGES = {
    "apply": Change(nothing, apply),
    "apply beside others": Change(patched, apply),
    "apply, refused": Change(patched, refused),
    "remove": Change(patched, remove),
    "remove from a stack": Change(stacked, remove_the_middle),
}


def agree(kernel: Kernel) -> str:
    """Check that table, text and memory tell the same; return the states found."""
    listed, verified = kernel.patches, kernel.verify()
    assert verified.ok, f"{listed} {verified}"
    sites = {patch.site for patch in listed if patch.state == "active"}
    assert verified.patched == len(sites)
    table = parts.arena(kernel).table()
    order = np.argsort(table.raw["body"])
    start = table.raw["body"][order].astype(np.int64)
    assert (start[:-1] + table.raw["body_size"][order][:-1] <= start[1:]).all(), "bodies overlap"
    assert kernel.arena_used == int(table.raw["body_size"].sum())
    states = sorted(patch.state for patch in listed)
    return " ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "nothing"


def empty(kernel: Kernel) -> None:
    kernel.remove_all()
    for _ in range(100):
        if not kernel.patches:
            break
        kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
        kernel.remove_all()


def carry_on(kernel: Kernel) -> None:
    """Put another patch in, take everything out: all memory returns, the text is the image's."""
    empty(kernel)
    kernel.patch(SITE, asm="nop").remove()
    empty(kernel)  # a thread may have been inside
    assert agree(kernel) == "nothing"
    assert kernel.arena_used == 0
    assert kernel.verify().patched == 0


def lives(kernel: Kernel) -> None:
    line = kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
    assert line.message.rstrip().endswith(" 0 bad")


class Cutter:
    """Repeat one change from one state, cut off at chosen points."""

    def __init__(self, kernel: Kernel, change: Change) -> None:
        self.kernel = kernel
        change.start(kernel)
        self._make = change.planned(kernel)
        kernel.snapshot(BEFORE)
        self._cuts = 0
        self.found: dict[str, int] = {}

    def _after(self, point: str, *, anew: bool) -> None:
        """Look at the guest as it was left, with the client that was cut off or another."""
        other = Kernel.attach(self.kernel.name) if anew else self.kernel
        try:
            states = agree(other)
            self.found[states] = self.found.get(states, 0) + 1
            carry_on(other)
            self._cuts += 1
            if self._cuts % LIVES == 0:
                lives(other)
        except BaseException as error:
            error.add_note(f"cut {point}")
            raise
        finally:
            if anew:
                other.close()

    def packets(self, wire: Wire, step: int) -> int:
        """Kill GDB, and every other time the client too, at every ``step``-th packet, whole and halved.

        Return how many packets there are: the first one that is not reached tells.
        """
        self.kernel.close()
        for packet in itertools.count(0, step):
            for half in (False, True):
                self.kernel.restore(BEFORE)
                wire.arm(packet, half=half)
                lost = pytest.raises(TargetLost, match="GDB") if packet < FEWEST else suppress(TargetLost)
                with lost:
                    self._make()
                if not wire.cut:
                    packets = wire.sent
                    wire.arm(None)
                    return packets
                self._after(f"at packet {packet}, half {half}", anew=packet // step % 2 == 0)
        raise AssertionError

    def orders(self, orders: Orders) -> int:
        """Kill the client at every row of orders to GDB, whole and halved; return how many there are."""
        for order in itertools.count():
            for half in (False, True):
                self.kernel.restore(BEFORE)
                orders.arm(order, half=half)
                with suppress(Killed):
                    self._make()
                if not orders.killed:
                    given = orders.given
                    orders.arm(None)
                    return given
                self.kernel.close()
                self._after(f"at order {order}, half {half}", anew=True)
        raise AssertionError


@pytest.fixture
def wire(kernel: Kernel, tmp_path: Path) -> Iterator[Wire]:
    with Wire.laid(kernel, tmp_path) as wire:
        yield wire


@pytest.fixture
def orders() -> Iterator[Orders]:
    with Orders.heard() as orders:
        yield orders


def test_some_cuts(kernel: Kernel, wire: Wire, orders: Orders) -> None:
    cutter = Cutter(kernel, CHANGES["apply beside others"])
    assert cutter.packets(wire, 20) > FEWEST
    assert cutter.orders(orders) > 3
    lives(kernel)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CHANGES)
def test_every_packet(kernel: Kernel, wire: Wire, name: str) -> None:
    cutter = Cutter(kernel, CHANGES[name])
    print(f"{name}: GDB killed at each of {cutter.packets(wire, 1)} packets, twice: {cutter.found}")


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CHANGES)
def test_every_order(kernel: Kernel, orders: Orders, name: str) -> None:
    cutter = Cutter(kernel, CHANGES[name])
    print(f"{name}: the client killed at each of {cutter.orders(orders)} rows, twice: {cutter.found}")
