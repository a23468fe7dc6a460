"""What talking to QEMU's GDB server costs: the packets of an operation, the time of a round trip."""

from __future__ import annotations

import re
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from kgdbpatch.errors import TargetLost
from kgdbpatch.vm.qemu import Qemu

__all__ = ["PACKET", "packets_sent", "round_trip"]

PACKET = re.compile(r"\$[^#]*#[0-9a-f]{2}")
_ANSWER = re.compile(rb"\$[^#]*#[0-9a-f]{2}")
_TIMES = 500
_DEADLINE = 10.0


def packets_sent(log: Path) -> list[str]:
    """Return the packets that GDB sent, of a log that ``set remotelogfile`` made it write."""
    lines = log.read_text(errors="replace").splitlines()
    return [packet for line in lines if line.startswith("w ") for packet in PACKET.findall(line)]


def round_trip(qemu: Qemu) -> float:
    """Return how long (seconds, median) the smallest packet and its answer take, with no GDB between.

    The guest stands still meanwhile.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(_DEADLINE)
        server.connect(str(qemu.gdb_socket))
        ask = _asker(server)
        ask(b"qSupported")
        times = []
        for _ in range(_TIMES):
            started = time.perf_counter()
            ask(b"qC")
            times.append(time.perf_counter() - started)
        ask(b"D")
    return statistics.median(times)


def _asker(server: socket.socket) -> Callable[[bytes], None]:
    def ask(text: bytes) -> None:
        server.sendall(b"+$%b#%02x" % (text, sum(text) & 0xFF))
        answer = b""
        while not _ANSWER.search(answer):
            more = server.recv(1 << 16)
            if not more:
                raise TargetLost("QEMU's GDB server closed its connection")
            answer += more

    return ask
