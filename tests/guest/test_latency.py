"""How long calls take: as steps counted one by one, sleeps of known length, calls within calls say."""

from __future__ import annotations

import json
import os
from itertools import pairwise

import pytest

from bench.hit import ICOUNT
from kgdbpatch.cli.main import run
from kgdbpatch.errors import Misuse
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.latency import Latency
from kgdbpatch.profiles.rows import LatencyRow

from .test_exits import DEEP, MINE, SUBJECTS, Subject, recursive
from .work import beat, empty

PROBE = 100  # instructions that a probe itself takes within what it measures, at most
SLEEPS = {"darwin": ("delay_ticks", 200, 2), "linux": ("msleep", 2000, 2)}  # function, argument, seconds


@pytest.fixture(
    params=[
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]),
    ]
)
def guest(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def only(latency: Latency, *, under_way: bool = False) -> LatencyRow:
    (row,) = latency.rows(under_way=under_way)
    return row


def test_a_sleep_takes_as_long_as_it_is_to(kernel: Kernel, guest: str) -> None:
    function, argument, seconds = SLEEPS[guest]
    with Latency(kernel, function) as latency:
        kernel.call(function, argument)
        row = only(latency)
    assert row.unit == "ns"
    assert row.calls >= 1
    assert row.most is not None
    assert seconds * 0.98e9 < row.most < seconds * 10e9  # a busy host is late
    empty(kernel)


def test_calls_within_calls_are_paired(kernel: Kernel, guest: str) -> None:
    subject: Subject = SUBJECTS[guest]
    inner = kernel.patch(subject.called, c=recursive(subject), replace=True, force=True)
    counted = kernel.patch(subject.called, exit=True, count=True)
    before = counted.exits or 0
    with Latency(kernel, subject.called) as latency:
        kernel.call(subject.called, MINE + DEEP)
        kernel.pause()
        row, after = only(latency, under_way=True), counted.exits or 0
        kernel.resume()
    assert DEEP < row.calls <= after - before
    assert row.under_way == row.unreturned == 0
    assert row.least is not None
    assert row.most is not None
    assert row.most >= row.least > 0
    assert sum(count for _, _, count in row.buckets) == row.calls
    inner.remove()
    empty(kernel)


def test_what_came_since_it_was_cleared(kernel: Kernel, guest: str) -> None:
    with Latency(kernel, SUBJECTS[guest].busy) as latency:
        beat(kernel)
        first = only(latency)
        latency.clear()
        assert only(latency).calls < first.calls
        beat(kernel)
        second = only(latency)
        beat(kernel)
        kernel.pause()
        row = only(latency)
        kernel.resume()
    assert first.calls > 1
    assert second.calls > 1
    assert row.average is not None
    assert row.least is not None
    assert row.most is not None
    assert row.least <= row.average <= row.most
    assert sum(count for _, _, count in row.buckets) == row.calls
    assert row.total == pytest.approx(row.average * row.calls, rel=0.01)
    for (low, high, _), (more, _, _) in pairwise(row.buckets):
        assert low < high <= more
    empty(kernel)


def test_instructions_are_those_that_are_executed() -> None:
    """Steps through some calls are the judge; the clock of the guest is coarser, its average is not."""
    function = "collatz_next"
    with Kernel.boot("darwin", f"pytest-{os.getpid()}-latency", icount=ICOUNT) as kernel:
        steps = [len(kernel.trace_call(function)) for _ in range(5)]
        with Latency(kernel, function, unit="instructions") as latency:
            while only(latency).calls < 500:
                latency.wait(0.5)
            row = only(latency)
        assert row.unit == "instructions"
        assert row.average is not None
        assert min(steps) < row.average < max(steps) + PROBE
        assert kernel.remove_all() is not None


@pytest.mark.kernel("darwin")
def test_the_command(kernel: Kernel, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["latency", kernel.name, "str*", "--seconds", "1"]) == 0
    out = capfd.readouterr().out
    assert "_strlen: " in out
    assert "█" in out
    assert run(["latency", kernel.name, "strlen", "--seconds", "1", "--json"]) == 0
    (row,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert row["function"] == "_strlen"
    assert row["resolution"] == pytest.approx(60.241)
    assert run(["latency", kernel.name, "strlen", "--unit", "instructions"]) == 2
    assert "--icount" in capfd.readouterr().err
    assert run(["latency", kernel.name, "no_such*"]) == 2
    assert run(["latency", kernel.name, "panic", "--seconds", "1"]) == 3
    assert run(["latency", kernel.name, "strlen", "--seconds", "-1"]) == 2
    with pytest.raises(Misuse, match="nothing that can be measured"):
        Latency(kernel, "strlen", unit="cycles")
    assert kernel.patches == []
    empty(kernel)
