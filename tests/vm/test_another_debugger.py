"""Another debugger on the guest's GDB socket: it is named, and waiting for it is no pause of the guest."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from kgdbpatch.errors import TargetBusy
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.peer import peer_of
from kgdbpatch.vm.qemu import Qemu

pytestmark = pytest.mark.guest

OTHER = """
import socket, sys
with socket.socket(socket.AF_UNIX) as held:
    held.connect(sys.argv[1])
    held.sendall(b"+$?#3f")
    print(held.recv(100) and "", flush=True)
    sys.stdin.read()
    held.sendall(b"+$D#44")
    held.recv(100)
"""


def test_it_is_named(qemu: Qemu) -> None:
    assert peer_of(qemu.gdb_socket) is None
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(qemu.gdb_socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with Debugger(qemu, wait=0.2) as debugger:
            with pytest.raises(TargetBusy, match=rf"process {other.pid} \(.*python.*\)"), debugger.stopped():
                pass
            other.stdin.close()
            other.wait(10)
            with debugger.stopped() as session:
                assert session.registers()
    finally:
        other.kill()
        other.wait()


def test_waiting_is_no_pause(qemu: Qemu) -> None:
    held = socket.socket(socket.AF_UNIX)
    held.connect(str(qemu.gdb_socket))
    held.sendall(b"+$?#3f")
    assert held.recv(100)
    waited = 1.0

    def leave() -> None:
        held.sendall(b"+$D#44")
        held.recv(100)
        held.close()

    with Debugger(qemu, wait=30) as debugger:
        found = peer_of(qemu.gdb_socket)
        assert found is not None
        assert found[0] == os.getpid()
        timer = threading.Timer(waited, leave)
        timer.start()
        with debugger.stopped():
            pass
        timer.join()
        assert debugger.pause < waited
