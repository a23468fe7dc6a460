"""The jobs that people know from other kernels' tracers, each one line: they tell something, and go."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.results import MapRow, TraceEvent

from .work import beat, empty

JOBS = tomllib.loads((Path(__file__).parents[2] / "examples/trace_jobs.toml").read_text())
pytestmark = pytest.mark.long


def told(kernel: Kernel, program: str) -> list[TraceEvent | MapRow]:
    """Return what a program tells, within a while."""
    found: list[TraceEvent | MapRow] = []
    with Trace(kernel, program) as trace:
        for _ in range(20):
            trace.run(found.append, 1)
            found += trace.maps()
            if found:
                break
        assert not trace.lost
        for row in trace.maps():
            assert row.lost == 0
    return found


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_jobs_on_linux(kernel: Kernel) -> None:
    assert len(JOBS["linux"]) >= 20
    silent = [job["job"] for job in JOBS["linux"] if not told(kernel, job["program"])]
    assert silent == []
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_jobs_on_darwin(kernel: Kernel) -> None:
    silent = [job["job"] for job in JOBS["darwin"] if not told(kernel, job["program"])]
    assert silent == []
    beat(kernel)
    empty(kernel)
