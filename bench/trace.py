"""What an event of `kgdbpatch trace` costs, for each job of examples/trace_jobs.toml."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.hit import ICOUNT, hit_cost
from kgdbpatch.cli.output import json_line, table
from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace

__all__ = ["JobCost", "measure", "report"]

JOBS = Path(__file__).parents[1] / "examples/trace_jobs.toml"
_HITS = 3


class JobCost(NamedTuple):
    """A job and its program; ``instructions`` are None where no hit could be stepped through."""

    job: str
    program: str
    instructions: int | None


def measure(profile: str, progress: Callable[[str], None]) -> list[JobCost]:
    """Return the cost of a hit of each job's first probe, the least of some."""
    found = []
    with Kernel.boot(profile, f"bench-{os.getpid()}-{profile}", icount=ICOUNT, progress=progress) as kernel:
        for job in tomllib.loads(JOBS.read_text())[profile]:
            progress(f"{profile}: {job['job']}")
            with Trace(kernel, job["program"]) as trace:
                try:
                    least: int | None = hit_cost(kernel, trace.first_site, None, hits=_HITS).least
                except KgdbPatchError:
                    least = None
            found.append(JobCost(job["job"], job["program"], least))
    return found


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
