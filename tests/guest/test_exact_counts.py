"""Counts of patches against QEMU's own log of what it executed: difference 0."""

from __future__ import annotations

import os
import random
import re
import threading
from collections import Counter
from pathlib import Path

import pytest

from bench.hit import ICOUNT
from kgdbpatch.component.quiescence import interrupted_contexts
from kgdbpatch.cpu.ppc6xx.msr import kernel_status
from kgdbpatch.guests import Recipe
from kgdbpatch.image import Function, Image
from kgdbpatch.kernel import Kernel, analyses
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters

from .parts import personality, threads

# With one instruction a translated block, QEMU logs every instruction that it enters ...
# Earlier QEMUs (7.2) write addresses with eight digits, later ones (10.0) with sixteen.
ENTERED = re.compile(rb"^Trace \d+: \S+ \[[0-9a-f]+/(?:0{8})?([0-9a-f]{8})/", re.MULTILINE)
# ... and takes back those that it had no instructions left for in its time slice (``icount``).
TAKEN_BACK = re.compile(
    rb"^Stopped execution of TB chain before \S+ \[(?:0{8})?([0-9a-f]{8})\]", re.MULTILINE
)
END = b"the guest is paused"

TEXT = {"darwin": "__TEXT,__text", "linux": ".text"}
BEATS = 2
STEPS = 2000  # of a CPU that is to leave a patch: an exception and what it interrupted


def boot(profile: str, what: str, icount: str | None = None) -> Kernel:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return Kernel.boot(profile, f"pytest-{os.getpid()}-{worker}-{what}", icount=icount)


def beats(kernel: Kernel, count: int) -> None:
    """Let the guest's workload check itself ``count`` times."""
    for _ in range(count):
        line = kernel.log.wait("selfcheck", deadline=200, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")


def busy_functions(profile: str, count: int) -> list[Function]:
    """Return ``count`` functions, chosen at random among those that the workload runs."""
    with boot(profile, "busy") as kernel:
        text = [function for function in kernel.image.functions if function.section == TEXT[profile]]
        kernel.patch_all([function.address for function in text], count=True)
        beats(kernel, BEATS)
        ran = {patch.site for patch in kernel.patches if patch.hits}
    busy = [function for function in text if function.address in ran]
    assert len(busy) >= count
    return random.Random(5).sample(busy, count)


def inside(kernel: Kernel, qemu: Qemu) -> bool:
    """Tell whether a paused guest's CPU, or a thread interrupted there, is on its way to a counter."""
    ranges = []
    for record in kernel.records():
        ranges.append((record.site, record.site + 4))
        ranges.append((record.body, record.body + record.body_size))
        if record.springboard is not None:
            ranges.append((record.springboard, record.springboard + 16 * record.springboard_slots))
    shown, registers = qemu.hmp("info registers"), GRegisters(bytes(GRegisters.SIZE))
    for name, pattern in (("pc", r"NIP (\w+)"), ("msr", r"MSR (\w+)"), ("r1", r"GPR00 \w+ (\w+)")):
        found = re.search(pattern, shown)
        assert found
        registers[name] = int(found[1], 16)
    if any(start <= registers["pc"] < end for start, end in ranges if end - start > 4):
        return True
    memory = [(0, qemu.ram.array(0, kernel.header.arena.physical))]
    contexts = interrupted_contexts(memory, [part for part in ranges if part[1] - part[0] > 4], kernel_status)
    return bool(threads(kernel).may_resume(contexts, registers))


def lives_on(kernel: Kernel, qemu: Qemu) -> None:
    """Wait until a guest has done something: on a busy host it may not have got the processor yet."""
    vitals = personality(kernel).vitals(kernel.image)
    places = (*vitals.ticks, *vitals.switches)
    assert places
    before = [qemu.ram.read(at, 4) for at in places]
    while [qemu.ram.read(at, 4) for at in places] == before:
        assert kernel.alive


def halt(kernel: Kernel, qemu: Qemu) -> dict[int, int]:
    """Pause the guest where every thread that came to a site was counted; return the hits by site."""
    kernel.pause()
    while inside(kernel, qemu):
        with kernel.stopped() as session:  # no tick comes meanwhile: they may take all its time
            session.step(STEPS)
        if inside(kernel, qemu):
            kernel.resume()
            lives_on(kernel, qemu)
            kernel.pause()
    return {patch.site: patch.hits or 0 for patch in kernel.patches}


def one_instruction_a_block(qemu: Qemu, state: str) -> None:
    """Switch what later QEMUs call ``one-insn-per-tb`` and earlier ones ``singlestep``."""
    answers = [qemu.hmp(f"one-insn-per-tb {state}")]
    if answers[0]:
        answers.append(qemu.hmp(f"singlestep {state}"))
    assert not answers[-1], f"QEMU says {answers}"


class Executed(threading.Thread):
    """QEMU's log of what it executes, added up by address as it comes: the log is a pipe."""

    def __init__(self, qemu: Qemu, pipe: Path, enough: int) -> None:
        super().__init__()
        self._qemu, self._pipe, self._enough = qemu, pipe, enough
        self.counts, self.lines = Counter[bytes](), 0
        self.reached = threading.Event()

    def run(self) -> None:
        held = b""
        with self._pipe.open("rb") as log:
            while chunk := log.read1(1 << 20):
                text, _, held = (held + chunk).rpartition(b"\n")
                entered = ENTERED.findall(text)
                self.counts.update(entered)
                self.counts.subtract(TAKEN_BACK.findall(text))
                self.lines += len(entered)
                if self.lines >= self._enough:
                    self.reached.set()
                if text.endswith(END):
                    break
        assert not held

    def __enter__(self) -> Executed:
        os.mkfifo(self._pipe)
        self.start()
        one_instruction_a_block(self._qemu, "on")
        self._qemu.hmp(f"logfile {self._pipe}")
        self._qemu.hmp("log exec,nochain")
        return self

    def __exit__(self, *_: object) -> None:
        """End the log, which QEMU has written line by line; the guest is paused."""
        with self._pipe.open("wb") as log:
            log.write(END + b"\n")
        self.join()
        self._qemu.hmp("log none")
        one_instruction_a_block(self._qemu, "off")

    def at(self, address: int) -> int:
        return self.counts[b"%08x" % address]


def blocks_of(image: Image, functions: list[Function]) -> list[int]:
    """Return the first instructions of the functions' basic blocks."""
    return sorted({start for f in functions for start in analyses.flow(image, f).graph.blocks})


def compare(kernel: Kernel, blocks: list[int], enough: int, tmp_path: Path) -> dict[int, int]:
    """Count blocks while QEMU logs ``enough`` instructions; return the hits by site, equal to the log's."""
    qemu = Qemu.attach(kernel.name)
    sites = [patch.site for patch in kernel.patch_all(blocks, count=True).patches]
    before = halt(kernel, qemu)
    with Executed(qemu, tmp_path / "executed", enough) as executed:
        kernel.resume()
        reached = executed.reached.wait(200)
        after = halt(kernel, qemu)
    kernel.resume()
    assert reached, f"only {executed.lines} instructions were logged"
    counted = {site: after[site] - before[site] for site in sites}
    print(
        f"\n{kernel.profile}: {len(sites)} of {len(blocks)} blocks counted, "
        f"{sum(1 for hits in counted.values() if hits)} ran, {sum(counted.values())} hits"
    )
    wrong = {
        kernel.image.symbolize(site): (hits, executed.at(site))
        for site, hits in counted.items()
        if hits != executed.at(site)
    }
    assert not wrong, f"site: (counted, executed): {wrong}"
    kernel.remove_all()
    return counted


@pytest.mark.long
def test_counts_are_what_qemu_executed(kernel: Kernel, tmp_path: Path) -> None:
    work = [function for function in kernel.image.functions if function.name.startswith(("_work_", "_sys_"))]
    counted = compare(kernel, blocks_of(kernel.image, work), 150_000, tmp_path)
    assert sum(1 for hits in counted.values() if hits) > 20


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("profile", ["darwin", pytest.param("linux", marks=pytest.mark.linux)])
def test_counts_of_two_hundred_functions(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = busy_functions(profile, 200)
    image = Recipe.find(profile).image_path()
    assert image is not None
    blocks = blocks_of(Image.load(image), functions)
    only = ",".join(f"0x{start:x}+4" for start in blocks)  # of these alone QEMU logs what it executes
    usual = Recipe.qemu_args
    monkeypatch.setattr(Recipe, "qemu_args", lambda *given: [*usual(*given), "-dfilter", only])
    with boot(profile, "exact", ICOUNT) as kernel:
        counted = compare(kernel, blocks, 500_000, tmp_path)
    ran = [function for function in functions if counted.get(function.address)]
    assert len(ran) > 0.5 * len(functions)
    assert sum(counted.values()) > 400_000
