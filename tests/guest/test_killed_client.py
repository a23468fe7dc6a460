"""A client, its GDB, or both, killed at any moment leave a guest that a client can finish with."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kgdbpatch.kernel import Kernel

MOMENTS = 500

# Applies and removes without end: single patches by branch and by trap, batches, stacks. Says its
# GDB's process id when it begins; says "lost" when that is gone, and begins again when it is told to.
CLIENT = """
import itertools, random, sys
from kgdbpatch.errors import TargetLost
from kgdbpatch.kernel import Kernel
kernel, site, chance = Kernel.attach(sys.argv[1]), sys.argv[2], random.Random(int(sys.argv[3]))
functions = [f.address for f in kernel.image.functions if f.section in ("__TEXT,__text", ".text")]
functions.remove(kernel.resolve(site))
def single():
    kernel.patch(site, asm="nop").remove()
def trap():
    kernel.patch(site, asm="nop", via="trap").remove()
def batch():
    kernel.patch_all(chance.sample(functions, 80), count=True)
    kernel.remove_all()
def stack():
    first, second, third = (kernel.patch(site, count=True) for _ in range(3))
    for patch in chance.sample((first, second, third), 3):
        patch.remove()
while True:
    try:
        kernel.remove_all()
        single()
        gdb = kernel._debugger.gdb_pid
        print(gdb, flush=True)
        while kernel._debugger.gdb_pid == gdb:  # one that dies between two stops is replaced, not missed
            chance.choice((single, trap, batch, stack))()
        raise TargetLost("between two stops")
    except TargetLost as error:
        print("lost:", error, flush=True)
        sys.stdin.readline()
"""


class Client:
    """A client at work in a process of its own."""

    def __init__(self, kernel: Kernel, site: str, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, kernel.name, site, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def works(self, seconds: float) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@contextmanager
def killed(kernel: Kernel, site: str, rng: random.Random) -> Iterator[Iterator[str]]:
    """Yield what was killed, again and again, each time after a moment's work."""
    clients: list[Client] = []

    def kills() -> Iterator[str]:
        for moment in range(MOMENTS):
            if not clients:
                clients.append(Client(kernel, site, moment))
            said = clients[0].says()
            assert said.isdigit(), f"before kill {moment}: {said}"
            gdb = int(said)
            clients[0].works(rng.uniform(0, 0.3))
            what = rng.choice(("GDB", "GDB", "client", "both"))
            if what != "client":
                os.kill(gdb, signal.SIGKILL)
            if what == "GDB":
                assert clients[0].says().startswith("lost")
            else:
                clients.pop().kill()
            yield what
            if clients:
                clients[0].go_on()

    try:
        yield kills()
    finally:
        for client in clients:
            client.kill()


def kill_clients(kernel: Kernel, site: str) -> None:
    rng = random.Random(20261124)
    states: Counter[str] = Counter()
    with killed(kernel, site, rng) as kills:
        for moment, what in enumerate(kills):
            if what == "client":  # its GDB does what it was told before, and lets go of the guest
                kernel.read_virtual(kernel.resolve(site), 4)
            listed, verified = kernel.list(), kernel.verify()
            assert verified.ok, f"moment {moment}, {what} killed: {listed} {verified}"
            active = {patch.site for patch in listed if patch.state == "active"}
            assert verified.patched == len(active), f"moment {moment}, {what} killed: {listed} {verified}"
            states[f"{what}: {'+'.join(sorted({patch.state for patch in listed})) or 'none'}"] += 1
            if moment % 50 == 49:
                print(f"{moment + 1} kills: {dict(sorted(states.items()))}", flush=True)
            if moment % 2:  # this client undoes it and puts another in, or the killed one's successor does
                kernel.remove_all()
                kernel.patch(site, asm="nop").remove()
                give_back(kernel)
            kernel.close()
    give_back(kernel)
    mark = kernel.log.position()
    line = kernel.log.wait("selfcheck", deadline=60, since=mark)
    assert line.message.rstrip().endswith(" 0 bad")
    print(f"{site}: what was killed, {MOMENTS} times, and the states found: {dict(sorted(states.items()))}")


def give_back(kernel: Kernel) -> None:
    """Take everything out; all memory comes back once no thread is in it."""
    end = time.monotonic() + 60
    kernel.remove_all()
    while kernel.list() and time.monotonic() < end:
        kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        kernel.remove_all()
    after = kernel.verify()
    assert (after.ok, after.patched, kernel.arena_used) == (True, 0, 0)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_kills_on_darwin(kernel: Kernel):
    kill_clients(kernel, "run_netisr")


@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.xdist_group("linux")
@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_kills_on_linux(kernel: Kernel):
    kill_clients(kernel, "udp_sendmsg")
