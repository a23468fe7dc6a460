"""QEMU's GDB stub by its own packets: breakpoints anywhere, at the speed of the socket."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from kgdbpatch.vm.description import described_registers, read_document
from kgdbpatch.vm.qemu import Qemu


class Stub:
    """A connection to QEMU's GDB stub, in its own packets: connecting stops the guest."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._held = b""
        self._places = described_registers(lambda name: read_document(self.ask, name))

    def close(self) -> None:
        self._socket.close()

    def send(self, text: str) -> None:
        self._socket.sendall(f"+${text}#{sum(text.encode()) & 255:02x}".encode())

    def receive(self, seconds: float) -> str | None:
        """Return the next packet, or None when none comes in time."""
        end = time.monotonic() + seconds
        while not (found := re.search(rb"\$([^#]*)#..", self._held)):
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                return None
            if not more:
                raise ConnectionError("QEMU closed the connection")
            self._held += more
        self._held = self._held[found.end() :]
        return found[1].decode()

    def ask(self, text: str) -> str:
        stops = text.startswith(("vCont", "?"))
        self.send(text)
        answer = self.receive(20)
        while answer is not None and not stops and answer[:1] in ("T", "S"):
            answer = self.receive(20)  # an interruption that came when the guest had stopped already
        assert answer is not None, text
        return answer

    def register(self, name: str) -> int:
        _, offset, size = self._places[name]
        return int(self.ask("g")[2 * offset : 2 * (offset + size)], 16)

    def set_register(self, name: str, value: int) -> None:
        number, _, size = self._places[name]
        assert self.ask(f"P{number:x}={value:0{2 * size}x}") == "OK"

    def run_to_stop(self, seconds: float) -> bool:
        """Let the guest run until it stops by itself; False: it had to be interrupted."""
        self.send("vCont;c")
        if self.receive(seconds) is not None:
            return True
        self._socket.sendall(b"\x03")
        assert self.receive(20) is not None
        return False


@contextmanager
def stub(qemu: Qemu) -> Iterator[Stub]:
    """Connect to a guest, which stops it; let it go on at the end."""
    connection = Stub(qemu.gdb_socket)
    try:
        connection.ask("?")
        yield connection
        connection.ask("D")
    finally:
        connection.close()
        qemu.qmp("cont")


def stops(connection: Stub, sites: dict[int, str], count: int) -> Generator[str]:
    """Yield the name of the site reached, up to ``count`` times; the guest is stopped there."""
    for site in sites:
        connection.ask(f"Z1,{site:x},4")
    try:
        for _ in range(count):
            assert connection.run_to_stop(20), "nothing was reached"
            at = connection.register("pc")
            yield sites[at]
            connection.ask(f"z1,{at:x},4")
            connection.ask("vCont;s")
            connection.ask(f"Z1,{at:x},4")
    finally:
        for site in sites:
            connection.ask(f"z1,{site:x},4")
