"""A client killed at any moment leaves a guest that runs on and can be stopped again."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from kgdbpatch.target.gdb import Debugger
from kgdbpatch.target.process import Process, start_time
from kgdbpatch.target.qemu import Qemu

from .baremetal import LOOP, runs

pytestmark = pytest.mark.guest
MOMENTS = 12

CLIENT = f"""
from kgdbpatch.target.gdb import Debugger
from kgdbpatch.target.qemu import Qemu
debugger = Debugger(Qemu.attach("shared"))
first = True
while True:
    with debugger.stopped() as session:
        session.write_physical(0x8000, bytes(1 << 16))
        session.run_to_physical({LOOP + 12:#x}, 5)
        session.write_all(session.read_all())
        session.read(0x8000, 1 << 12)
        if first:
            print(debugger.gdb_pid, flush=True)
            first = False
        session.resume()
"""


def test_killed_at_random_moments(qemu: Qemu, debugger: Debugger):
    rng = random.Random(7500)
    for _ in range(MOMENTS):
        client = subprocess.Popen([sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, text=True)
        try:
            assert client.stdout is not None
            pid = int(client.stdout.readline())
            started = start_time(pid)
            assert started is not None
            with pytest.raises(subprocess.TimeoutExpired):
                client.wait(rng.uniform(0, 0.05))
        finally:
            client.kill()
            client.communicate()
        assert Process(pid, started).wait(5), "GDB goes on without its client"
        assert runs(qemu)
        with debugger.stopped() as session:
            assert session.packet("qqemu.PhyMemMode") == "0"
            assert LOOP <= session.registers()["pc"] < LOOP + 24
        assert runs(qemu)


def test_killed_while_code_is_awaited(qemu: Qemu, debugger: Debugger):
    """GDB, waiting for QEMU, does not see its client's end; its own time limit ends the wait."""
    client = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CLIENT.replace(f"{LOOP + 12:#x}", "0x1100")
            .replace("session.run", "print(debugger.gdb_pid, flush=True); session.run")
            .replace(", 5)", ", 1)"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        started = start_time(pid)
        assert started is not None
    finally:
        client.kill()
        client.communicate()
    began = time.monotonic()
    assert Process(pid, started).wait(5)
    assert time.monotonic() - began < 3
    assert runs(qemu)
    with debugger.stopped():
        pass
    assert runs(qemu)
