"""Rounds of apply and remove with threads asleep inside: nothing is freed that one comes back to."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from kgdbpatch.component import ComponentClient, Header
from kgdbpatch.component.allocate import Allocator
from kgdbpatch.component.layout import BODY_ALIGNMENT, State
from kgdbpatch.component.stop import Stop
from kgdbpatch.kernel import Kernel
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.vm.gdb import GRegisters
from kgdbpatch.vm.qemu import Qemu

from .parts import arena, planner
from .work import beat, empty, entries

SOME, ALL = 5, 5000
AT_ONCE = 6

NAP = """
extern void delay_ticks(int);
static unsigned calls;
void nap(void) { if (calls++ % 3 == 0) delay_ticks(1 + calls % 4); }
"""

# struct thread and struct per_proc_info of images/darwin/include/kern.h and ppc.h, the frames of asm.h
SP, LOW, HIGH, STATE, NEXT = 8, 12, 16, 20, 60
HALTED = 3
ACTIVE = 24
LR_SLOT = 4
SRR0, SRR1, SAVED_LR, EXCEPTION_FRAME = 64 + 128, 64 + 132, 64 + 140, 64 + 176 + 224  # with the red zone
USER, TRANSLATED = 0x4000, 0x1030  # MSR: PR; ME, IR and DR
STWU, STW_LR, BLR = 0x94210000, 0x90010000, 0x4E800020  # stwu r1,d(r1); stw r0,d(r1)
PROLOGUE = 64  # instructions


@dataclass
class Watch:
    """An independent judge of every free: it knows the guest's threads and unwinds all of their stacks."""

    kernel: Kernel
    frees: int = 0
    asleep: int = 0  # patches kept, a thread being inside
    needless: int = 0  # patches kept, no thread being inside
    frames: int = 0

    def __post_init__(self) -> None:
        self.ram = Qemu.attach(self.kernel.name).ram
        self.threads = self.kernel.image.lookup("all_threads")
        self.active = self.kernel.image.lookup("per_proc_info") + ACTIVE
        self.callee = self.kernel["delay_ticks"]

    def word(self, address: int) -> int:
        return int.from_bytes(self.ram.read(address, 4), "big")

    def context(self, pc: int, lr: int) -> list[int]:
        """Return what a context goes on to: LR counts while the payload's callee has not saved it."""
        return [pc, lr] if self.callee.address <= pc < self.callee.end else [pc]

    def has_saved_lr(self, pc: int) -> bool:
        """Tell whether the word for LR above the frame that r1 points to is of now.

        It is not between a prologue that made a frame and the store of LR, and in leaf functions.
        """
        for address in range(pc - 4, pc - 4 * PROLOGUE, -4):
            if not 0 <= address < self.ram.size:
                break
            word = self.word(address)
            if word & 0xFFFF0000 == STWU:
                return False
            if word & 0xFFFF0000 == STW_LR or word == BLR:
                return True
        return True

    def stack(self, sp: int, low: int, high: int, pc: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield where in the stack from ``sp`` up which code address stands that is come back to.

        ``pc`` is where the function at the top is, unless it has called another one.
        """
        while low - EXCEPTION_FRAME <= sp < high:
            self.frames += 1
            above, msr = self.word(sp), self.word(sp + SRR1)
            if above - sp == EXCEPTION_FRAME and msr & TRANSLATED == TRANSLATED:
                if msr & USER:
                    return
                pc = self.word(sp + SRR0)
                yield from ((sp, word) for word in self.context(pc, self.word(sp + SAVED_LR)))
            elif not sp < above < high:
                return
            else:
                if pc is None or self.has_saved_lr(pc):
                    yield above + LR_SLOT, self.word(above + LR_SLOT)
                pc = None
            sp = above

    def references(self, registers: GRegisters) -> Iterator[tuple[str, int]]:
        """Yield every code address that the CPU or a thread goes on or comes back to, and who does."""
        now = " ".join(f"{name} 0x{registers[name]:08x}" for name in ("pc", "msr", "r1", "lr"))
        for word in self.context(registers["pc"], registers["lr"]):
            yield f"the CPU, {now}", word
        thread, active = self.word(self.threads), self.word(self.active)
        while thread:
            sp, low, high, state = (self.word(thread + offset) for offset in (SP, LOW, HIGH, STATE))
            pc = None
            if thread == active:
                sp, pc = (high, None) if registers["msr"] & USER else (registers["r1"], registers["pc"])
            if state != HALTED:
                who = f"{'running' if thread == active else 'sleeping'} thread 0x{thread:08x}, {now}"
                for at, word in self.stack(sp, low, high, pc):
                    yield f"{who}, sp 0x{sp:08x}, at 0x{at:08x}", word
            thread = self.word(thread + NEXT)

    def judge(self, before: npt.NDArray[np.void], left: list[int], stop: Stop) -> None:
        found = list(self.references(stop.registers()))
        words = np.array([word for _, word in found], np.int64)
        for record in before:
            body, board = int(record["body"]), int(record["springboard"])
            inside = (body <= words) & (words < body + int(record["body_size"]))
            inside |= (board <= words) & (words < board + 16 * int(record["springboard_slots"]))
            held = [f"0x{found[at][1]:08x} of {found[at][0]}" for at in np.flatnonzero(inside).tolist()]
            if int(record["id"]) in left:
                self.asleep += bool(held)
                self.needless += not held
            else:
                self.frees += 1
                if held:
                    raise AssertionError(f"patch {record['id']} at 0x{record['site']:08x} freed: {held}")


Judge = Callable[[npt.NDArray[np.void], list[int], Stop], None]  # retired records, ids left of them


def judged(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> None:
    """Have every collection judged, in its stop."""
    collect = ComponentClient.collect

    def watched(self: ComponentClient, header: Header, stop: Stop) -> list[int]:
        table = self.arena(header.arena).table()
        before = table.raw[table.raw["state"] == State.RETIRED]
        left = collect(self, header, stop)
        judge(before, left, stop)
        return left

    monkeypatch.setattr(ComponentClient, "collect", watched)


@pytest.fixture
def watch(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Watch:
    watching = Watch(kernel)
    judged(monkeypatch, watching.judge)
    return watching


def rounds(kernel: Kernel, sites: list[int], nap: Path, count: int) -> int:
    """Apply and remove so often; return how many patches stayed when they were removed first."""
    chance = random.Random(count)
    payload = planner(kernel).payload(PatchRequest(c=nap))  # compiled once; linked once a place
    stayed = 0
    for _ in range(count):
        batch = kernel.patch_each(dict.fromkeys(chance.sample(sites, AT_ONCE), payload))
        assert not batch.refused
        ids = [*batch.ids.values()]
        room, until = arena(kernel), time.monotonic() + 60
        while True:  # until a thread is inside one of them
            table = room.table()
            if (table.entered() & np.isin(table.raw["id"], ids)).any():
                break
            assert time.monotonic() < until
        stayed += len(set(kernel.remove(*ids)) & set(ids))
    return stayed


def check(kernel: Kernel, watch: Watch, sites: list[int], nap: Path, count: int) -> None:
    started = time.perf_counter()
    rounds(kernel, sites, nap, count)
    seconds = time.perf_counter() - started
    empty(kernel)
    beat(kernel)
    print(
        f"\n{count} rounds in {seconds:.0f} s: {watch.frees} patches freed, {watch.asleep} kept at a time "
        f"with a thread inside, {watch.needless} times for less; {watch.frames} frames unwound"
    )
    assert watch.frees == AT_ONCE * count
    assert watch.asleep > count / 2


def darwin_sites(kernel: Kernel) -> list[int]:
    """Return functions that the workload runs where sleeping is allowed."""
    return entries(kernel, "sys_*") + entries(kernel, "work_*")


@pytest.fixture
def nap(tmp_path: Path) -> Path:
    source = tmp_path / "nap.c"
    source.write_text(NAP)
    return source


def test_rounds_with_sleepers(kernel: Kernel, watch: Watch, nap: Path) -> None:
    check(kernel, watch, darwin_sites(kernel), nap, SOME)


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_five_thousand_rounds_with_sleepers(kernel: Kernel, watch: Watch, nap: Path) -> None:
    check(kernel, watch, darwin_sites(kernel), nap, ALL)


LINUX_NAP = """
extern void msleep(unsigned);
static unsigned calls;
void nap(void) { if (calls++ % 3 == 0) msleep(1 + calls % 4); }
"""


class Poison:
    """The CPU as the judge of every free: a body becomes no instructions, and is never a body again."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.frees, self.kept = kernel, 0, 0
        self._unused = 0  # no body has lain from here on

    def free_memory(self, gaps: list[list[int]]) -> list[list[int]]:
        return [[max(low, self._unused), high] for low, high in gaps if high > self._unused]

    def poison(self, before: npt.NDArray[np.void], left: list[int], stop: Stop) -> None:
        room = arena(self.kernel)
        self.kept += len(left)
        for record in before:
            if int(record["id"]) not in left:
                body, size = room.inside(int(record["body"])), int(record["body_size"])
                stop.write(body, bytes(size))
                end = body + size - room.plan.physical + room.plan.virtual
                self._unused = max(self._unused, -(-end // BODY_ALIGNMENT) * BODY_ALIGNMENT)
                self.frees += 1


@pytest.fixture
def poison(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Poison:
    judge, free_memory = Poison(kernel), Allocator.free_memory
    judged(monkeypatch, judge.poison)
    monkeypatch.setattr(
        Allocator, "free_memory", lambda self, table: judge.free_memory(free_memory(self, table))
    )
    return judge


def linux_sites(kernel: Kernel) -> list[int]:
    """Return functions that the workload's system calls enter, where sleeping is allowed."""
    sites = [site for pattern in ("sys_*", "ksys_*", "__sys_*") for site in entries(kernel, pattern)]
    kernel.patch_all(sites, count=True)
    called: list[int] = []
    for _ in range(30):  # a busy host lets the guest do little between two beats
        beat(kernel)
        called = [patch.site for patch in kernel.patches if (patch.hits or 0) > 10]
        if len(called) >= AT_ONCE:
            break
    kernel.remove_all()
    return called


LONG = (pytest.mark.soak, pytest.mark.timeout(2400))


@pytest.mark.linux
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(SOME, marks=pytest.mark.kernel("linux")),
        pytest.param(ALL // 10, marks=(*LONG, pytest.mark.kernel("linux"))),
        pytest.param(ALL // 50, marks=(*LONG, pytest.mark.kernel("linux-e500"))),
        pytest.param(ALL // 50, marks=(*LONG, pytest.mark.kernel("linux-e500-smp"))),
    ],
)
def test_rounds_with_sleepers_on_linux(kernel: Kernel, poison: Poison, tmp_path: Path, count: int) -> None:
    sites = linux_sites(kernel)
    assert len(sites) >= AT_ONCE
    nap = tmp_path / "nap.c"
    nap.write_text(LINUX_NAP)
    sleeping = rounds(kernel, sites, nap, count)
    print(f"{count} rounds: {poison.frees} patches freed, {poison.kept} times one was kept")
    empty(kernel)
    beat(kernel)
    assert sleeping > count / 2


SPIN = """
        mfctr 12
        lis 11,0x40
        mtctr 11
1:      bdnz 1b
        mtctr 12
"""


@pytest.mark.parametrize(
    "site",
    [
        pytest.param("work_checksums", marks=pytest.mark.kernel("darwin")),
        pytest.param("udp_sendmsg", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
def test_a_thread_that_was_interrupted_inside_comes_back(kernel: Kernel, poison: Poison, site: str) -> None:
    """Some milliseconds in a body without calls: only the interrupted context tells of the thread."""
    rounds = 0
    while rounds < 10 or (poison.kept == 0 and rounds < 200):
        patch = kernel.patch(site, asm=SPIN, count=True)
        until = time.monotonic() + 60
        while not patch.hits:
            assert time.monotonic() < until
        kernel.remove(patch.id)
        rounds += 1
    empty(kernel)
    beat(kernel)
    print(f"{site}: {poison.frees} freed, {poison.kept} times one was kept")
    assert poison.frees == rounds
    assert poison.kept > 0
