"""What a dashboard reckons and says, without a guest."""

from __future__ import annotations

import pytest

from kgdbpatch.cli.dash_text import cells, heading, log_line, size, span
from kgdbpatch.kernel.dashboard import DashboardRow, DashboardView, Sample, rates
from kgdbpatch.kernel.health import Health
from kgdbpatch.personality.base import LogLine
from kgdbpatch.results import PatchState


def test_rates() -> None:
    before = Sample(10.0, {1: 100, 2: 50, 3: 7}, ticks=0xFFFF_FFFE, switches=None)
    now = Sample(12.0, {1: 300, 2: 10, 4: 9}, ticks=2, switches=5)
    assert rates(before, now) == ({1: 100.0}, 2.0, None)  # 2 was put in anew, 4 is new
    assert rates(now, now) == ({}, None, None)


@pytest.mark.parametrize(
    ("seconds", "told"), [(83, "0:01:23"), (86400 + 3600, "1 day 1:00:00"), (200000, "2 days 7:33:20")]
)
def test_spans(seconds: float, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(
    ("count", "told"), [(912, "912 bytes"), (1536, "1.5 KiB"), (32 << 20, "32 MiB"), (288 << 20, "288 MiB")]
)
def test_sizes(count: int, told: str) -> None:
    assert size(count) == told


def view(health: Health, debugger: str = "") -> DashboardView:
    return DashboardView("g", "vmlinux", 12, health, debugger, 5.0, 100.0, None, 2048, 32 << 20)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (view(Health("running")), "g running"),
        (view(Health("paused", "it was told to pause")), "g paused: it was told to pause"),
        (view(Health("paused", "so"), "process 7 (gdb)"), "g held: by another debugger, process 7 (gdb)"),
        (view(Health("running"), "process 7 (gdb)"), "g running: a debugger is at work, process 7 (gdb)"),
        (view(Health("panicked", "panic: \x1b[2J")), "g panicked: panic: \\x1b[2J"),
        (view(Health("running", oopses=("Oops: 1",))), "g running; it has said 'Oops: 1'"),
    ],
)
def test_headings(seen: DashboardView, told: str) -> None:
    first, second = heading(seen).plain.split("\n")
    assert first == told
    assert second == "vmlinux, QEMU 12  ·  up 0:00:05  ·  100 ticks/s  ·  arena 2 KiB of 32 MiB"


def test_rows_and_lines() -> None:
    row = DashboardRow(3, 0x4000, "f+0x8", PatchState.ACTIVE, 12345, 2.25, None)
    assert [cell.plain for cell in cells(row)] == ["3", "f+0x8", "active", "12,345", "2.2", "-"]
    assert log_line(LogLine("1.5", "kernel", "a\x07 [b]")).plain == "1.5 kernel: a\\x07 [b]"
    assert log_line(LogLine("", "panic", "dead")).plain == "dead"
