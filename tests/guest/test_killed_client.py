"""A client, its GDB, or both, killed at any moment leave a guest that a client can finish with.

How often is up to the variable ``KILLS``, in runs marked ``soak``.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from kgdbpatch.kernel import Kernel

from .killed import Client, Nursery, busy

KILLS = int(os.environ.get("KILLS", "500"))
MOMENT = 0.2  # seconds of work, at most


@contextmanager
def killed(kernel: Kernel, site: str, rng: random.Random) -> Iterator[Iterator[str]]:
    """Yield what was killed, again and again, each time after a moment's work."""
    nursery = Nursery(kernel.name, site)
    clients: list[Client] = []

    def kills() -> Iterator[str]:
        for moment in range(KILLS):
            if not clients:
                clients.append(nursery.next())
            said = clients[0].says()
            assert said.isdigit(), f"before kill {moment}: {said}"
            gdb = int(said)
            clients[0].works(rng.uniform(0, MOMENT))
            what = rng.choice(("GDB", "client", "both"))
            if what != "client":
                os.kill(gdb, signal.SIGKILL)
            if what == "GDB":
                said = clients[0].says()
                assert said.startswith("lost"), f"kill {moment}: {said}"
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
        nursery.close()


def kill_clients(kernel: Kernel, site: str) -> None:
    rng = random.Random(20261124)
    states: Counter[str] = Counter()
    started = time.monotonic()
    with killed(kernel, site, rng) as kills:
        for moment, what in enumerate(kills):
            kernel.read_virtual(kernel.resolve(site), 4)  # what was ordered before is over then
            listed, verified = kernel.patches, kernel.verify()
            assert verified.ok, f"moment {moment}, {what} killed: {listed} {verified}"
            active = {patch.site for patch in listed if patch.state == "active"}
            assert verified.patched == len(active), f"moment {moment}, {what} killed: {listed} {verified}"
            states[f"{what}: {'+'.join(sorted({patch.state for patch in listed})) or 'none'}"] += 1
            if moment % 50 == 49:
                seconds = time.monotonic() - started
                print(f"{moment + 1} kills in {seconds:.0f} s: {dict(sorted(states.items()))}", flush=True)
            if moment % 2:  # this client undoes it and puts another in, or the killed one's successor does
                kernel.remove_all()
                kernel.patch(site, asm="nop").remove()
                give_back(kernel)
    give_back(kernel)
    mark = kernel.log.position()
    line = kernel.log.wait("selfcheck", deadline=60, since=mark)
    assert line.message.rstrip().endswith(" 0 bad")
    print(f"{site}: what was killed, {KILLS} times, and the states found: {dict(sorted(states.items()))}")


def give_back(kernel: Kernel) -> None:
    """Take everything out; all memory comes back once no thread is in it."""
    end = time.monotonic() + 60
    kernel.remove_all()
    while kernel.patches and time.monotonic() < end:
        kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        kernel.remove_all()
    after = kernel.verify()
    assert (after.ok, after.patched, kernel.arena_used) == (True, 0, 0)


LOADS: dict[str, Callable[[], AbstractContextManager[None]]] = {"idle": nullcontext, "busy": busy}


@pytest.mark.soak
@pytest.mark.timeout(20_000)
@pytest.mark.parametrize("load", LOADS)
def test_kills_on_darwin(kernel: Kernel, load: str) -> None:
    with LOADS[load]():
        kill_clients(kernel, "run_netisr")


@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.xdist_group("linux")
@pytest.mark.soak
@pytest.mark.timeout(20_000)
@pytest.mark.parametrize("load", LOADS)
def test_kills_on_linux(kernel: Kernel, load: str) -> None:
    with LOADS[load]():
        kill_clients(kernel, "udp_sendmsg")
