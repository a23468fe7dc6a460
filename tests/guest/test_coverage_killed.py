"""Whoever takes coverage, killed at any moment: the guest goes on, and the next client finishes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel import Kernel

from .test_coverage import BUSY
from .work import beat, empty

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("KILLS", "16"))
WORK = """
import sys
from kgdbpatch.kernel import Kernel
kernel = Kernel.attach(sys.argv[1])
kernel.debugger
print("ready", flush=True)
while True:
    if not kernel.coverage.on:
        kernel.coverage.start()
    try:
        kernel.coverage.run()
    except Exception:
        pass
    kernel.coverage.reset()
    kernel.coverage.stop()
"""


def kill_in_between(kernel: Kernel, moment: float, what: str) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", WORK, kernel.name], stdout=subprocess.PIPE, start_new_session=True
    )
    assert client.stdout is not None
    assert client.stdout.readline()
    time.sleep(moment)
    if what == "both":
        os.killpg(client.pid, signal.SIGKILL)
    else:
        client.kill()
    client.wait()


@pytest.mark.parametrize(
    "longest",
    [
        pytest.param(1.0, marks=pytest.mark.kernel("darwin"), id="darwin"),
        pytest.param(20.0, marks=[pytest.mark.kernel("linux"), pytest.mark.linux], id="linux"),
    ],
)
def test_killed(kernel: Kernel, longest: float) -> None:
    chance, seen = random.Random(11), set[str]()
    for number in range(KILLS if longest < 10 else KILLS // 3):
        kill_in_between(kernel, chance.uniform(0, longest), chance.choice(("client", "both")))
        kernel.read_virtual(kernel.resolve(BUSY[kernel.profile]), 4)  # what was ordered is over then
        verified, rows = kernel.verify(), kernel.patch_table()
        told = f"kill {number}: {rows} {verified}"
        assert verified.ok, told
        assert len([row for row in rows if row.coverage]) <= 1, told
        if kernel.coverage.on:
            try:
                kernel.coverage.run()
                seen.add("on")
            except Misuse:
                seen.add("cut off")
                if number % 2:
                    assert not kernel.coverage.reset().hits.all()
                    kernel.coverage.run()
        else:
            seen.add("off")
        if number % 3 == 0:
            beat(kernel)
        if number % 3 == 1 and kernel.coverage.on:
            kernel.coverage.stop()
        if number % 3 == 2:
            kernel.remove_all()
    print(f"\n{kernel.profile}: {sorted(seen)}")
    empty(kernel)
    beat(kernel)
