"""The cost of the demo's job at its site: by patches, by a kprobe event, by a GDB breakpoint."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import linux
from bench.breakpoint import breakpoint_with_commands
from bench.hit import ICOUNT, Cost, hit_cost
from kgdbpatch.errors import TargetTimeout
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

__all__ = ["JOBS", "Costs", "Job", "measure"]

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
_ROUNDS, _LOOPS = 5000, 3
_GDB_HITS = 50
_BEATS = 5  # self-checks between which the guest's speed is taken


@dataclass(frozen=True, slots=True)
class Job:
    """The demo job of one profile, as C, as GDB commands and, where there are any, as kprobe event."""

    site: str
    code: str
    text: str
    value: Callable[[Kernel], str]
    kprobe: str | None

    @property
    def source(self) -> Path:
        """The C file."""
        return _EXAMPLES / self.code


JOBS = {
    "darwin": Job(
        site="run_netisr",
        code="packet_counter.c",
        text="KernMonitor/packet_counter: netisr value: 0x%08x",
        value=lambda kernel: f"{{unsigned int}}{kernel.image.lookup('netisr'):#x}",
        kprobe=None,
    ),
    "linux": Job(
        site="udp_sendmsg",
        code="udp_probe.c",
        text="KernMonitor/udp_probe: udp_sendmsg length: %u",
        value=lambda _: "$r5",
        kprobe="udp_sendmsg length=%gpr5:u32",
    ),
}


def _patches(job: Job, scratch: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield (name, instructions inline, payload) from the smallest patch to the demo's."""
    empty = scratch / "empty.c"
    empty.write_text("void empty(void)\n{\n}\n")
    yield "nop", 1, {"asm": "nop"}
    yield "nop, counted", 1, {"asm": "nop", "count": True}
    yield "nop, entered by a trap", 1, {"asm": "nop", "via": "trap"}
    yield "empty C function", 0, {"c": empty}
    yield job.code, 0, {"c": job.source}


class _Bench:
    """One guest at its job."""

    def __init__(self, kernel: Kernel, progress: Callable[[str], None]) -> None:
        self._kernel, self._progress, self._job = kernel, progress, JOBS[kernel.profile]
        self._looping = kernel.profile == "linux"
        self._base = self._loop()

    def _loop(self) -> float | None:
        if not self._looping:
            return None
        with linux.calm(self._kernel):
            return linux.udp_instructions(self._kernel, _ROUNDS, loops=_LOOPS)

    def _with_average(self, cost: Cost) -> Cost:
        loop = self._loop()
        if loop is None or self._base is None:
            return cost
        return replace(cost, average=round(loop - self._base, 1))

    def patches(self) -> Iterator[Cost]:
        with tempfile.TemporaryDirectory() as scratch:
            for what, inline, payload in _patches(self._job, Path(scratch)):
                self._progress(f"{self._kernel.profile}: {what}")
                with self._kernel.patch(self._job.site, **payload) as applied:
                    cost = hit_cost(self._kernel, self._job.site, applied, inline=inline, what=what)
                    yield self._with_average(cost)

    def kprobe(self) -> Iterator[Cost]:
        if self._job.kprobe is None:
            return
        what = "kprobe event"
        self._progress(f"{self._kernel.profile}: {what}")
        with linux.kprobe_event(self._kernel, self._job.kprobe):
            yield self._with_average(hit_cost(self._kernel, self._job.site, None, what=what))

    def breakpoint(self) -> Cost:
        what = "GDB breakpoint"
        self._progress(f"{self._kernel.profile}: {what}")
        site = self._kernel.resolve(self._job.site)
        qemu = Qemu.attach(self._kernel.name)
        value = self._job.value(self._kernel)
        found = breakpoint_with_commands(qemu, site, self._job.text, value, _GDB_HITS)
        return Cost(
            what,
            0,
            None,
            None,
            0,
            0,
            stop_ms=round(1000 * found.seconds, 2),
            stops=found.stops,
            round_trips=round(found.round_trips, 1),
        )


def _speed(kernel: Kernel) -> float:
    """Return the instructions per second of the host's time that a busy guest executes here."""
    start: tuple[float, int] | None = None
    beats = 0
    for line in kernel.log.follow(kernel.log.position(), deadline=60):
        if "selfcheck" not in line.message:
            continue
        now = (time.perf_counter(), kernel.instructions)
        start = start or now
        beats += 1
        if beats > _BEATS:
            return (now[1] - start[1]) / (now[0] - start[0])
    raise TargetTimeout("the guest did not print its self-checks within 60 s")


@dataclass(frozen=True, slots=True)
class Costs:
    """All figures of one profile; ``speed`` in guest instructions per second of this host."""

    profile: str
    site: str
    speed: float
    rows: tuple[Cost, ...]


def measure(profile: str, progress: Callable[[str], None]) -> Costs:
    """Boot a guest that counts its instructions and measure everything there is for its profile."""
    with Kernel.boot(profile, f"bench-{os.getpid()}-{profile}", icount=ICOUNT, progress=progress) as kernel:
        speed = _speed(kernel)
        bench = _Bench(kernel, progress)
        rows = (*bench.patches(), *bench.kprobe(), bench.breakpoint())
        return Costs(profile, JOBS[profile].site, speed, rows)
