"""Sampled stacks are those of the guest: rooted where threads begin, spent where work is done."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.stack_samples import StackSamples

from .work import beat, empty

SPIN = """#include <kgdbpatch.h>
unsigned long turns;
void spin(void) { unsigned long end, now; __asm__ volatile("mftb %0" : "=r"(end)); end += 1660000;
    do { __asm__ volatile("mftb %0" : "=r"(now)); turns++; } while ((long)(now - end) < 0); }
"""  # a tenth of a second of the g3beige's time base
ROOTS = {"darwin": r"_thread_bootstrap|\[process\]", "linux": r"ret_from_|\[process\]|start_kernel|_start"}


@pytest.fixture(
    params=[
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]),
    ]
)
def guest(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_stacks_are_those_of_the_guest(kernel: Kernel, guest: str) -> None:
    samples = StackSamples(kernel, hz=99)
    while samples.stops < 40:
        samples.gather(1)
    rows = samples.rows()
    assert sum(row.count for row in rows) == samples.stops
    assert sum(row.share for row in rows) == pytest.approx(1, abs=0.02)
    rooted = sum(row.count for row in rows if re.search(ROOTS[guest], " ".join(row.stack[:3])))
    assert rooted > 0.6 * samples.stops, [row.stack for row in rows]
    assert 0 < samples.stopped < samples.seconds
    beat(kernel)


@pytest.mark.kernel("darwin")
def test_time_is_where_it_is_spent(kernel: Kernel) -> None:
    """A function that is made to take a tenth of a second each time is seen more than any other."""
    with kernel.patch("work_round", c=SPIN):
        samples = StackSamples(kernel, hz=49)
        while samples.stops < 40:
            samples.gather(1)
    inside = sum(row.count for row in samples.rows() if any("spin" in name for name in row.stack))
    assert inside > samples.stops / 3, samples.rows()
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_the_command(kernel: Kernel, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folded, svg = tmp_path / "stacks", tmp_path / "flames.svg"
    assert run(["stacks", kernel.name, "--seconds", "2", "--folded", str(folded), "--svg", str(svg)]) == 0
    assert "stood still" in capfd.readouterr().err
    lines = folded.read_text().splitlines()
    assert all(re.fullmatch(r"[^;]+(;[^;]+)* \d+", line) for line in lines)
    picture = ET.parse(svg).getroot()
    titles = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}title")]
    total = sum(int(line.rpartition(" ")[2]) for line in lines)
    assert titles[0] == f"all: {total:,} samples, 100.00%"
    assert run(["stacks", kernel.name, "--seconds", "1", "--json"]) == 0
    row = json.loads(capfd.readouterr().out.splitlines()[0])
    assert set(row) == {"stack", "count", "share"}
    assert run(["stacks", kernel.name, "--seconds", "1", "--svg", str(tmp_path / "no" / "file")]) == 2
    assert run(["pause", kernel.name]) == 0
    assert run(["stacks", kernel.name, "--seconds", "1"]) == 2
    assert run(["resume", kernel.name]) == 0
