"""What an event of `kgdbpatch trace` costs, beside what the kernel's own tracers take for theirs."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from bench import linux
from bench.cost import JOBS as KPROBES
from bench.hit import ICOUNT, hit_cost
from kgdbpatch.cli.output import json_line, table
from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace

__all__ = ["JobCost", "measure", "report"]

JOBS = Path(__file__).parents[1] / "examples/trace_jobs.toml"
_HITS = 3
_BUSY = {"darwin": "strlen", "linux": "udp_sendmsg"}
_GLOBS = {"darwin": "strl*", "linux": "udp_*msg"}
_BASIC = (  # job, program: SITE is the busy function, GLOB some with it
    ("count calls", "SITE { count() }"),
    ("by function", "GLOB { @[func] = count() }"),
    ("by function, and sum", "GLOB { @[func] = sum(arg2) }"),
    ("by thread", "SITE { @[tid] = count() }"),
    ("by caller", "SITE { @[caller] = count() }"),
    ("by program", "SITE { @[comm] = count() }"),
    ("by stack, three frames", "SITE { @[stack(3)] = count() }"),
    ("by stack, eight frames", "SITE { @[stack] = count() }"),
    ("sum of an argument", "SITE { @ = sum(arg2) }"),
    ("histogram of an argument", "SITE { @ = hist(arg2) }"),
    ("a condition that does not hold", "SITE if arg2 == 0x7fffffff { print(arg2) }"),
    ("four words of an event", "SITE { print(arg0, arg1, arg2, arg3) }"),
    ("a number and a string", 'SITE { printf("%d %s", arg2, comm) }'),
    ("a stack", "SITE { print(stack) }"),
)


class JobCost(NamedTuple):
    """A job and its program; ``instructions`` are None where no hit could be stepped through."""

    job: str
    program: str
    instructions: int | None


def measure(profile: str, progress: Callable[[str], None]) -> list[JobCost]:
    """Return the cost of a hit of each job's first probe, the least of some."""
    with Kernel.boot(profile, f"bench-{os.getpid()}-{profile}", icount=ICOUNT, progress=progress) as kernel:
        site = _BUSY[profile]
        basic = [
            (job, program.replace("SITE", site).replace("GLOB", _GLOBS[profile]), site)
            for job, program in _BASIC
        ]
        jobs = [(one["job"], one["program"], None) for one in tomllib.loads(JOBS.read_text())[profile]]
        found = [*_own_tracers(kernel, site, progress)] if profile == "linux" else []
        for job, program, place in [*basic, *jobs]:
            progress(f"{profile}: {job}")
            with Trace(kernel, program) as trace:
                found.append(JobCost(job, program, _least(kernel, place or trace.first_site)))
    return found


def _own_tracers(kernel: Kernel, site: str, progress: Callable[[str], None]) -> Iterator[JobCost]:
    """Yield what the kernel's own tracers take for a call of the same function."""
    event = KPROBES["linux"].kprobe or ""
    ways: list[tuple[str, str, AbstractContextManager[int | None]]] = [
        ("the kernel's own kprobe event", f"p {event}", linux.kprobe_event(kernel, event)),
        ("the kernel's own function tracer", f"function: {site}", linux.function_tracer(kernel, site)),
    ]
    for job, program, tracer in ways:
        progress(f"linux: {job}")
        with tracer as place:
            yield JobCost(job, program, _least(kernel, site if place is None else place))


def _least(kernel: Kernel, place: str | int) -> int | None:
    try:
        return hit_cost(kernel, place, None, hits=_HITS).least
    except KgdbPatchError:
        return None


def report(profile: str, found: list[JobCost], *, as_json: bool) -> int:
    """Print the costs; return 0."""
    if as_json:
        for one in found:
            json_line({"guest": profile, **one._asdict()})
        return 0
    print(f"{profile}: an event of a trace, in guest instructions; of :return what its entry takes")
    table(
        ("INSTRUCTIONS", "JOB", "PROGRAM"), [(one.instructions or "-", one.job, one.program) for one in found]
    )
    return 0
