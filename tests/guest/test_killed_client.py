"""A client killed at any moment leaves a guest that another client can finish with."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from kgdbpatch.kernel import Kernel

MOMENTS = 50

# Says "go" when it starts to apply and remove without end.
CLIENT = """
import sys
from kgdbpatch.kernel import Kernel
kernel = Kernel.attach(sys.argv[1])
kernel.patch(sys.argv[2], asm="nop", via=sys.argv[3]).remove()
print("go", flush=True)
while True:
    kernel.patch(sys.argv[2], asm="nop", via=sys.argv[3]).remove()
"""


def kill_clients(kernel: Kernel, site: str, via: str = "auto") -> None:
    rng = random.Random(20261124)
    states = []
    for moment in range(MOMENTS):
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, kernel.name, site, via], stdout=subprocess.PIPE, text=True
        )
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "go\n", "the client did not come up"
            with pytest.raises(subprocess.TimeoutExpired):
                client.wait(rng.uniform(0, 0.4))
        finally:
            client.send_signal(signal.SIGKILL)
            client.wait()
            client.stdout.close()
        kernel.read_virtual(kernel.resolve(site), 4)  # the dead client's GDB has let go of the guest
        listed = kernel.list()
        verified = kernel.verify()
        assert verified.ok, f"moment {moment}: {listed} {verified}"
        assert verified.patched == sum(patch.state == "active" for patch in listed)
        states.append(tuple(patch.state for patch in listed))
        # a new client can carry on: once undo, once put another patch in
        kernel.remove_all()
        kernel.patch(site, asm="nop").remove()
        after = kernel.verify()
        assert (after.ok, after.patched) == (True, 0)
        kernel.close()
    mark = kernel.log.position()
    line = kernel.log.wait("selfcheck", deadline=30, since=mark)
    assert line.message.rstrip().endswith(" 0 bad")
    found = {state: states.count(state) for state in set(states)}
    print(f"{site}: states found after {MOMENTS} kills: {found}")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_kills_on_darwin(kernel: Kernel):
    kill_clients(kernel, "run_netisr")


@pytest.mark.linux
@pytest.mark.kernel("linux")
@pytest.mark.xdist_group("linux")
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_kills_on_linux(kernel: Kernel):
    kill_clients(kernel, "udp_sendmsg")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_kills_while_traps_come_and_go(kernel: Kernel):
    kill_clients(kernel, "run_netisr", "trap")
