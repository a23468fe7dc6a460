"""A client killed at any moment leaves a guest that runs on and can be stopped again."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.process import Process, start_time
from kgdbpatch.vm.qemu import Qemu

from .baremetal import LOOP, SUM, runs

pytestmark = pytest.mark.guest
MOMENTS = 4

CLIENT = """
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.qemu import Qemu
debugger = Debugger(Qemu.attach("shared"))
{work}
"""

CHANGE = f"""
started = False
while True:
    with debugger.stopped() as session:
        session.write_physical(0x8000, bytes(1 << 16))
        session.run_to_physical({LOOP + 12}, 5)
        session.write_all(session.read_all())
        session.read(0x8000, 1 << 12)
        session.resume()
        session.interrupt()
    if not started:
        print(debugger.gdb_pid, flush=True)
        started = True
"""

AWAIT = f"""
with debugger.stopped() as session:
    print(debugger.gdb_pid, flush=True)
    session.run_to_physical({SUM}, 1)
"""


def kill_at_work(work: str, after: float) -> Process:
    """Kill a client some time after it has begun to ``work``; return its GDB."""
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT.format(work=work)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        started = start_time(pid)
        assert started is not None
        gdb = Process(pid, started)
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(after)
    finally:
        client.kill()
        client.communicate()
    return gdb


def test_killed_at_random_moments(qemu: Qemu, debugger: Debugger) -> None:
    rng = random.Random(7500)
    for _ in range(MOMENTS):
        gdb = kill_at_work(CHANGE, rng.uniform(0, 0.05))
        assert gdb.wait(5), "GDB goes on without its client"
        assert runs(qemu)
        with debugger.stopped() as session:
            assert session.packet("qqemu.PhyMemMode") == "0"
            assert LOOP <= session.registers()["pc"] < LOOP + 24
        assert runs(qemu)


def test_killed_while_code_is_awaited(qemu: Qemu, debugger: Debugger) -> None:
    """GDB, waiting for QEMU, does not see its client's end; its own time limit ends the wait."""
    gdb = kill_at_work(AWAIT, 0.2)
    assert gdb.wait(20)  # later GDBs try three times
    assert runs(qemu)
    with debugger.stopped():
        pass
    assert runs(qemu)
