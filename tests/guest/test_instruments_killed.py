"""Whatever instruments a kernel, killed at any moment: list and verify agree, and all can be taken out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from kgdbpatch.kernel import Kernel
from kgdbpatch.results import PatchState

from .work import beat, empty

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("KILLS", "2"))  # of each command
COMMANDS = [
    ("trace", "{busy} {{ @[caller] = count() }}"),
    ("callers", "{busy}"),
    ("latency", "{glob}"),
    ("top", "{glob}", "--interval", "0.5"),
    ("graph", "{busy}"),
    ("stacks",),
    ("timers", "{glob}"),
    ("cfg", "{busy}", "--hits", "--seconds", "60"),
    ("why-slow", "--for", "{busy}", "--seconds", "1"),
]
BUSY = {"darwin": ("tsleep", "str*"), "linux": ("udp_sendmsg", "udp_*")}


def killed(kernel: Kernel, command: tuple[str, ...], moment: float) -> None:
    """Run a command for so many seconds, and kill it and all that it has started."""
    busy, glob = BUSY[kernel.profile]
    words = [word.format(busy=busy, glob=glob) for word in command[1:]]
    with subprocess.Popen(
        [sys.executable, "-m", "kgdbpatch", command[0], kernel.name, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as client:
        time.sleep(moment)  # it is the moment that is tried
        os.killpg(client.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "longest",
    [
        pytest.param(5.0, marks=pytest.mark.kernel("darwin"), id="darwin"),
        pytest.param(12.0, marks=[pytest.mark.kernel("linux"), pytest.mark.linux], id="linux"),
    ],
)
def test_killed(kernel: Kernel, longest: float) -> None:
    chance, left = random.Random(15), 0
    for number in range(KILLS * len(COMMANDS)):
        command = COMMANDS[number % len(COMMANDS)]
        moment = chance.uniform(0.3, longest)
        killed(kernel, command, moment)
        kernel.assure_alive()
        verified, rows = kernel.verify(), kernel.patch_table()
        told = f"{command[0]} after {moment:.2f} s: {rows} {verified}"
        assert verified.ok, told
        active = [row for row in rows if row.state is not PatchState.RETIRED]
        assert len({row.site for row in active}) <= verified.patched, told
        left += bool(active)
        kernel.remove_all()
        assert kernel.verify().patched == 0, told
    assert left, "none was killed with patches in the guest"
    print(f"\n{kernel.profile}: of {KILLS * len(COMMANDS)} kills {left} left patches")
    beat(kernel)
    empty(kernel)
