"""What the pytest plugin does for a test: the right guest, a log of its own, nothing left of killed runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.component import ComponentClient
from kgdbpatch.errors import TargetLost
from kgdbpatch.kernel import Kernel, catalog
from kgdbpatch.personality.base import ArenaPlan

from .kills import kill

SLEEPER = """
import pathlib, time

def test_that_sleeps(kernel):
    pathlib.Path({flag!r}).write_text(f"{{kernel.name}} {{kernel.pid}}")
    time.sleep(600)
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        monkeypatch.setenv("KGDBPATCH_RUNTIME", directory)
        yield Path(directory)


def sleeping(test: Path) -> tuple[list[str], subprocess.Popen[bytes], str, str]:
    """Start a run of a test that sleeps; return command, process, and the guest's name and process."""
    flag = test.with_name("flag")
    test.write_text(SLEEPER.format(flag=str(flag)))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(test)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=test.parent)
    until = time.monotonic() + 120
    while not (flag.exists() and flag.read_text()) and time.monotonic() < until:
        assert run.poll() is None
        time.sleep(0.05)
    name, pid = flag.read_text().split()
    return command, run, name, pid


def test_a_run_that_is_told_to_end_ends_its_guests(runtime: Path, tmp_path: Path) -> None:
    _, told, name, pid = sleeping(tmp_path / "test_sleeper.py")
    told.send_signal(signal.SIGTERM)
    assert told.wait() == pytest.ExitCode.INTERRUPTED
    assert name not in [guest.name for guest in catalog.known()]
    assert not Path(f"/proc/{pid}").exists()


def test_a_killed_run_leaves_nothing_to_the_next(runtime: Path, tmp_path: Path) -> None:
    test = tmp_path / "test_sleeper.py"
    command, killed, name, pid = sleeping(test)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert Path(f"/proc/{pid}").exists()

    test.write_text("def test_that_needs_one(kernel): assert kernel.verify().ok\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout
    assert name not in [guest.name for guest in catalog.known()]
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.kernel
def test_a_marker_without_a_name_is_the_default(kernel: Kernel) -> None:
    assert kernel.profile == "darwin"


@pytest.mark.parametrize("number", [1, 2])
def test_the_log_begins_anew(kernel: Kernel, number: int) -> None:
    assert len(kernel.log.lines()) < 5
    assert not any("system ready" in line.message for line in kernel.log.lines())
    for _ in range(4):
        kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
    assert len(kernel.log.lines()) >= 4


def test_one_that_was_attached_to_goes_on(kernel: Kernel) -> None:
    with Kernel.attach(kernel.name) as other:
        assert other.verify().ok
    assert kernel.alive
    assert kernel.health.state == "running"


def test_a_paused_one_stays_paused(kernel: Kernel) -> None:
    kernel.pause()
    printed = kernel.qemu.console.size()
    patch = kernel.patch("run_netisr", count=True)
    kernel.snapshot("while-paused")
    assert [found.id for found in kernel.patches] == [patch.id]
    assert kernel.verify().ok
    patch.remove()
    kernel.read_virtual(kernel.image.lookup("run_netisr"), 4)
    assert kernel.health.state == "paused"
    assert kernel.qemu.console.size() == printed
    kernel.resume()
    kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())


def test_a_failed_boot_leaves_no_process(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComponentClient, "install", _stop_and_fail)
    children = set(_children())
    with pytest.raises(TargetLost, match="after all"):
        Kernel.boot("darwin", "unbootable")
    assert set(_children()) <= children
    assert not list(runtime.glob("*/guest.json"))


def _stop_and_fail(component: ComponentClient, arena: ArenaPlan, *_: object) -> None:
    with component.stop(arena):
        raise TargetLost("after all")


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


@pytest.mark.panics
def test_the_log_of_a_panic(kernel: Kernel) -> None:
    mark = kernel.log.wait("selfcheck", deadline=60)
    kill(kernel, "panic")
    last = kernel.log.wait("We are hanging here", deadline=60)
    assert last.source == "panic"
    assert kernel.health.line == "panic(cpu 0): killed by a patch"
    lines = kernel.log.lines()
    assert mark in lines
    assert [line.message for line in lines if line.source == "panic"][:2] == [
        "panic(cpu 0): killed by a patch",
        "We are hanging here...",
    ]
    assert len(kernel.log.lines(everything=True)) >= len(lines)
    late = kernel.log.late(mark.time)
    assert [late(line) for line in lines][-1]
    never = kernel.log.late("Dec 31 23:59:59")
    assert not any(never(line) for line in lines)
