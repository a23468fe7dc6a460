"""What runs inside GDB, in its own Python: rows of orders come through one pipe, answers go through another.

GDB reads commands and writes one byte a system call, which takes longer than packets; a row costs one read,
one write. A row that did not come wholly is not begun; one that was is carried out even when the client is
gone. The end of the pipe ends GDB, which disconnects and lets the guest go on.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import gdb

_RUN = "vCont;c"
_rows: dict[int, BinaryIO] = {}  # by descriptor: what was read ahead stays

# The guest did not stop as long as GDB waits. Earlier GDBs (13) then ask QEMU to repeat its answer,
# later ones (16) give up; QEMU stops the guest at any byte: there at once, here with the next packet.
_NO_STOP = "T02"


def _carry_out(order: str) -> str | None:
    if order[0] == ":":
        return str(gdb.execute(order[1:], to_string=True))
    try:
        answer = gdb.selected_inferior().connection.send_packet(order)
    except gdb.error:
        if not order.startswith(_RUN) or gdb.selected_inferior().connection is None:
            raise
        return _NO_STOP
    return None if answer is None else answer.decode("latin-1")


def serve(orders: int, answers: int) -> None:
    """Carry out rows until an empty one; the arguments are descriptors.

    A row is a line with a JSON list of strings: packets, or ``:`` and GDB's commands. The answer is a line
    with two: the answers, null where there was none; GDB's complaint about the one that failed and ended it.
    """
    if orders not in _rows:
        _rows[orders] = os.fdopen(orders, "rb")
    with _silence():
        if not _serve(_rows[orders], answers):
            if gdb.selected_inferior().connection is None:
                os._exit(0)  # nothing is held: taking GDB down in order takes longer than most stops
            gdb.execute("quit")
    gdb.execute("maintenance flush register-cache", to_string=True)  # packets have passed it by


def run(seconds: float) -> None:
    """Let the guest run until it stops, by SIGINT after ``seconds``; GDB takes no commands meanwhile."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        gdb.execute("continue", to_string=True)
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def _silence() -> Iterator[None]:
    """Let go what GDB tells on its own, one byte a system call: here, nobody waits for it."""
    said, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(said, 1)
        os.close(said)
        os.close(nowhere)


def _serve(rows: BinaryIO, answers: int) -> bool:
    """Carry out rows until an empty one; tell whether there was one."""
    for row in iter(rows.readline, b"\n"):
        if not row.endswith(b"\n"):
            return False
        given: list[str | None] = []
        complaint = None
        try:
            for order in json.loads(row):
                given.append(_carry_out(order))
        except Exception as error:
            complaint = str(error) or repr(error)
        answer = json.dumps([given, complaint]).encode() + b"\n"
        try:
            while answer:
                answer = answer[os.write(answers, answer) :]
        except BrokenPipeError:
            return False
    return True
