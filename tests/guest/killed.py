"""Clients to be killed: at work in processes of their own, which begin at once."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Client", "Nursery", "busy"]

# Holds what every client needs, and forks one for every socket that it is sent.
NURSERY = """
import gc, os, signal, socket, sys
from guest.killed import work
from kgdbpatch.kernel import Kernel
name, site, descriptor = sys.argv[1], sys.argv[2], int(sys.argv[3])
control = socket.socket(fileno=descriptor)
kernel = Kernel.attach(name)
kernel.plan(site, asm="nop")
for function in kernel.image.functions[:40]:
    kernel.check(function.address, count=True)
gc.freeze()  # a collection in one of them would copy all of this
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    seed, sockets, *_ = socket.recv_fds(control, 32, 1)
    if not seed:
        break
    kernel.qemu.events.update()
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        work(kernel, site, int(seed), socket.socket(fileno=sockets[0]))
    os.close(sockets[0])
"""


def work(kernel, site, seed, line) -> None:  # type: ignore[no-untyped-def]
    """Apply and remove without end: single patches by branch and by trap, batches, stacks.

    Says its own process id when it is ready and its GDB's when it begins; says "lost" when that is gone,
    and begins again when it is told to.
    """
    import random
    from itertools import permutations

    from kgdbpatch.errors import TargetLost

    chance, talk = random.Random(seed), line.makefile("rw")
    orders = [order for count in (3, 4, 5) for order in permutations(range(count))]
    following = seed * 7  # each seed goes on elsewhere, so that all of them come
    functions = [f.address for f in kernel.image.functions if f.section in ("__TEXT,__text", ".text")]
    functions.remove(kernel.resolve(site))

    def single() -> None:
        kernel.patch(site, asm="nop").remove()

    def trap() -> None:
        kernel.patch(site, asm="nop", via="trap").remove()

    def batch() -> None:
        kernel.patch_all(chance.sample(functions, 80), count=True)
        kernel.remove_all()

    def stack() -> None:
        nonlocal following
        order = orders[following % len(orders)]
        following += 1
        trapped = chance.choice([None, *range(len(order))])
        patches = [
            kernel.patch(site, count=True, via="trap" if number == trapped else "auto").id
            for number in range(len(order))
        ]
        rest = [patches[index] for index in order]
        while rest:
            count = chance.choice((1, 1, 2))
            kernel.remove(*rest[:count])
            rest = rest[count:]

    print(f"{os.getpid()}", file=talk, flush=True)
    debugger = kernel.debugger
    talk.readline()
    while True:
        try:
            kernel.remove_all()
            single()
            gdb = debugger.gdb_pid
            print(f"{gdb}", file=talk, flush=True)
            while debugger.gdb_pid == gdb:  # one that dies between two stops is replaced, not missed
                chance.choice((single, trap, batch, stack, stack))()
            raise TargetLost("between two stops")
        except TargetLost as error:
            print(f"lost: {error}", file=talk, flush=True)
            talk.readline()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=talk, flush=True)
            raise


class Client:
    """A client at work in a process of its own."""

    def __init__(self, control: socket.socket, seed: int) -> None:
        ours, its = socket.socketpair()
        socket.send_fds(control, [str(seed).encode()], [its.fileno()])
        its.close()
        self._line = ours
        self._talk = ours.makefile("rw")
        self._pid = 0

    def says(self) -> str:
        return self._talk.readline().strip()

    def go_on(self) -> None:
        self._pid = self._pid or int(self.says())
        print("go on", file=self._talk, flush=True)

    def works(self, seconds: float) -> None:
        ended, _, _ = select.select([self._line], [], [], seconds)
        assert not ended, self.says()

    def kill(self) -> None:
        self._pid = self._pid or int(self.says() or 0)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ConnectionResetError):  # something said was not heard
            while self._line.recv(4096):
                pass
        self._talk.close()
        self._line.close()


class Nursery:
    """Clients of one guest; the next one is always ready."""

    def __init__(self, name: str, site: str) -> None:
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [path for path in sys.path if path]
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, name, site, str(its.fileno())],
            pass_fds=[its.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        its.close()
        self._seed = 0
        self._ready = self._new()

    def _new(self) -> Client:
        self._seed += 1
        return Client(self._control, self._seed)

    def next(self) -> Client:
        client, self._ready = self._ready, self._new()
        client.go_on()
        return client

    def close(self) -> None:
        self._ready.kill()
        self._control.close()
        self._process.wait(30)


@contextmanager
def busy() -> Iterator[None]:
    """Keep every core of this machine busy meanwhile."""
    burn = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(burn) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
