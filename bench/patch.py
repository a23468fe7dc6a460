"""Patches beside the least that they can cost: bounds, hand-written ones, the socket's round trips."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import linux
from bench.cost import JOBS, Job
from bench.hand import LEAF, by_hand, hand_written
from bench.hit import ICOUNT, hit_cost
from bench.packets import packets_sent, round_trip
from kgdbpatch.cli.output import json_line, table
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.vm.qemu import Qemu

__all__ = ["Ratio", "hits", "measure", "report"]

_MANY = 10_000
_APPLIES = 31
_BATCHES = 2
_KEPT = 2  # mcrf there and back, or mfcr and mtcrf: a live CR0 around the count
_COUNT = 7  # b, lis, lwarx, addi, stwcx., bne, b


@dataclass(frozen=True, slots=True)
class Ratio:
    """What was measured beside what it is to be compared with, both in ``unit``."""

    what: str
    unit: str
    measured: float
    beside: float
    against: str
    most: float  # the ratio that is the goal
    note: str = ""

    @property
    def ratio(self) -> float:
        """Measured by what it is compared with."""
        return self.measured / self.beside

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.ratio <= self.most


def _cost(kernel: Kernel, site: str | int, applied: Patch, inline: int = 0) -> int:
    return hit_cost(kernel, site, applied, inline=inline).instructions


def _empty(kernel: Kernel, job: Job) -> Ratio:
    with kernel.patch(job.site, asm="nop") as applied:
        cost = _cost(kernel, job.site, applied, 1) - 1  # the nop itself
    return Ratio(f"empty patch, {job.site}", "instructions", cost, 2, "two branches", 1)


def _executed(kernel: Kernel, job: Job) -> list[int]:
    """Return the plain instructions of the job's function that run, each once."""
    function = kernel[job.site]
    inside = range(function.address, function.address + function.size)
    return list(dict.fromkeys(pc for pc in kernel.trace_call(job.site) if pc in inside))


def _counts(kernel: Kernel, job: Job) -> Iterator[Ratio]:
    """Count at the first site of each kind with three free registers."""
    wanted = {(True, True): "LR, CR0 free", (False, True): "LR live", (True, False): "CR0 live"}
    for site in _executed(kernel, job):
        live = kernel.live(site)
        kind = ("lr" in live.free, "cr0" in live.free)
        registers = sum(name in live.free for name in (f"r{number}" for number in range(32)))
        if kind not in wanted or registers < 3 or live.instruction.startswith("b"):
            continue
        with kernel.patch(site, count=True) as applied:
            cost = _cost(kernel, site, applied)
        least = _COUNT if kind[1] else _COUNT + _KEPT
        what = f"count, {kernel.image.symbolize(site)}"
        yield Ratio(what, "instructions", cost, least, "bound", 1, wanted.pop(kind))
        if not wanted:
            return


def _calls(kernel: Kernel, job: Job, kinds: Sequence[str]) -> Iterator[Ratio]:
    for what in kinds:
        source = LEAF if what == "leaf" else job.source
        with kernel.patch(job.site, c=source) as applied:
            ours = hit_cost(kernel, job.site, applied)
        with by_hand(kernel, job.site, source, hand_written(kernel.profile, what)) as applied:
            hand = hit_cost(kernel, job.site, applied)
            counted = applied.hits
        assert counted, "the hand-written patch counts"
        glue, least = ours.glue or 0, hand.glue or 0
        yield Ratio(
            f"C function ({source.name})",
            "instructions",
            glue + (hand.payload or 0),  # the payload's own way differs from hit to hit
            least + (hand.payload or 0),
            "by hand",
            1.1,
            f"glue {glue}, by hand {least}",
        )


def hits(kernel: Kernel, job: Job, kinds: Sequence[str] = ("leaf", "call")) -> list[Ratio]:
    """Compare what hits of an empty patch, of counting ones and of C functions take."""
    return [_empty(kernel, job), *_counts(kernel, job), *_calls(kernel, job, kinds)]


def _kprobe(kernel: Kernel, job: Job) -> Iterator[Ratio]:
    if job.kprobe is None:
        return
    with linux.kprobe_event(kernel, job.kprobe):
        event = hit_cost(kernel, job.site, None).instructions
    with kernel.patch(job.site, count=True) as applied:
        count = _cost(kernel, job.site, applied)
    yield Ratio(f"count, {job.site}", "instructions", count, event, "kprobe event", 1)


def _apply(kernel: Kernel, job: Job) -> Ratio:
    """Compare the stop of one apply with its packets' round trips on QEMU's socket, without GDB.

    A stop lasts from before GDB connects until it has disconnected.
    """
    qemu = Qemu.attach(kernel.name)
    kernel.patch(job.site, count=True).remove()  # GDB's first connection takes longer
    pauses, trips = [], []
    for _ in range(_APPLIES):
        with kernel.patch(job.site, count=True) as patch:
            pauses.append(patch.pause_us / 1e6)
        trips.append(round_trip(qemu))
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "packets.log")
        with kernel.logging_packets(log):
            patch = kernel.patch(job.site, count=True)
        patch.remove()
        sent = packets_sent(log)
    connections = sum(packet.startswith("$qSupported") for packet in sent)
    return Ratio(
        "one apply, the guest's stop",
        "ms",
        round(1e3 * statistics.median(pauses), 2),
        round(1e3 * len(sent) * statistics.median(trips), 2),
        f"{len(sent)} round trips",
        3,
        f"of {1e6 * statistics.median(trips):.0f} us; shortest {1e3 * min(pauses):.2f}; stops: {connections}",
    )


def _many(kernel: Kernel) -> Ratio:
    functions = [f for f in kernel.image.functions if f.section in ("__TEXT,__text", ".text")]
    places = (
        function.address + 4 * word
        for word in itertools.count()
        for function in functions
        if 4 * word < function.size
    )
    sites, pauses = list(itertools.islice(places, _MANY + _MANY // 20)), []
    for _ in range(_BATCHES):
        batch = kernel.patch_all(sites, count=True)
        pauses.append(batch.pause_us / 1e6)
        kernel.remove_all()
    return Ratio(f"{len(batch.ids)} patches in one stop", "s", min(pauses), 1, "a second", 1)


def measure(profile: str, told: Callable[[str], None]) -> list[Ratio]:
    """Boot a guest that counts its instructions, then one that need not, and measure them."""
    job, rows = JOBS[profile], list[Ratio]()
    counting = (
        ("hits", lambda kernel: hits(kernel, job)),
        ("the kprobe event", lambda kernel: _kprobe(kernel, job)),
    )
    stopping = (
        ("the stop of an apply", lambda kernel: [_apply(kernel, job)]),
        ("many patches", lambda kernel: [_many(kernel)]),
    )
    for icount, parts in ((ICOUNT, counting), (None, stopping)):
        name = f"bench-patch-{os.getpid()}-{profile}"
        with Kernel.boot(profile, name, icount=icount, progress=told) as kernel:
            for what, part in parts:
                told(f"{profile}: {what}")
                rows += part(kernel)
    return rows


def report(profile: str, rows: list[Ratio], *, as_json: bool) -> int:
    """Print the rows; return 1 when one misses its goal."""
    if as_json:
        for row in rows:
            more = {"ratio": round(row.ratio, 3), "met": row.met}
            json_line({"bench": "patch", "profile": profile, **asdict(row), **more})
    else:
        print(f"{profile}: patches beside the least they can cost")
        table(
            ("WHAT", "MEASURED", "BESIDE", "RATIO", "GOAL", ""),
            [
                (
                    row.what,
                    f"{row.measured:g} {row.unit}",
                    f"{row.beside:g} ({row.against})",
                    f"{row.ratio:.2f}",
                    f"{row.most:g}" + ("" if row.met else " MISSED"),
                    row.note,
                )
                for row in rows
            ],
        )
    return int(not all(row.met for row in rows))
