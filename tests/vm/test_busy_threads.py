"""Whether a QEMU's virtual CPUs are at work is seen on a busy host, too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kgdbpatch.vm.attached import busy_threads


@pytest.fixture(params=["while True: pass", "import time\nwhile True: time.sleep(0.001)"])
def worker(request: pytest.FixtureRequest) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", request.param]) as process:
        yield process.pid
        process.kill()


def test_one_at_work_is_seen_by_who_seldom_looks(worker: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda _: wait(0.2))  # until this process has a processor again
    assert busy_threads(worker, 0.1, {worker}) == {worker}


def test_one_that_waits_for_nothing_is_not_at_work() -> None:
    idle = [sys.executable, "-c", "import os; os.write(1, b'.'); os.read(0, 1)"]
    with subprocess.Popen(idle, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 1)
        wait_asleep(process.pid)
        assert busy_threads(process.pid, 0.1, {process.pid}) == set()
        process.kill()


def wait_asleep(pid: int) -> None:
    with open(f"/proc/{pid}/stat") as file:
        while file.read().rpartition(") ")[2][0] == "R":
            file.seek(0)
