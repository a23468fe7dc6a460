"""The running kernel's own functions are called, as a thread in a system call might call them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from math import isqrt
from subprocess import PIPE

import numpy as np
import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.kernel_calls import pending
from kgdbpatch.component.layout import CallStatus
from kgdbpatch.errors import Misuse, TargetBusy, TargetTimeout
from kgdbpatch.kernel import Kernel

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux]


def untouched(kernel: Kernel) -> None:
    """Assert that nothing of a call is left, and that the guest finds nothing wrong with itself."""
    assert pending(kernel.qemu.ram, kernel.header.arena.physical) is None
    assert kernel.verify().ok
    position = kernel.log.position()
    assert kernel.log.wait(r"selfcheck: \d+ ok, 0 bad", since=position, deadline=30)


def test_a_function_gives_its_value(kernel: Kernel) -> None:
    for number in (0, 1, 1763, 1764, 0xFFFF_FFFF):
        assert kernel.call("int_sqrt", number) == isqrt(number)
    untouched(kernel)


def test_a_function_that_sleeps(kernel: Kernel) -> None:
    before = kernel.call("jiffies_to_msecs", 0)
    assert before == 0
    assert kernel.call("msleep_interruptible", 30) == 0
    untouched(kernel)


def test_a_function_that_takes_longer_than_it_may(kernel: Kernel) -> None:
    """The call goes on; the next one waits for it, and every one leaves the guest as it was."""
    with pytest.raises(TargetTimeout, match="has not returned within 1 s"):
        kernel.call("msleep_interruptible", 3000, deadline=1)
    with pytest.raises(TargetBusy, match="still under way"):
        kernel.call("int_sqrt", 16)
    assert kernel.verify().ok
    position = kernel.log.position()
    for _ in range(4):  # of one a second
        position = kernel.log.position()
        kernel.log.wait("selfcheck", since=position)
    assert kernel.call("int_sqrt", 16) == 4
    untouched(kernel)


def test_what_cannot_be_called(kernel: Kernel) -> None:
    with pytest.raises(Misuse, match="at most 8 words"):
        kernel.call("int_sqrt", *range(9))
    with pytest.raises(Misuse, match="is no code"):
        kernel.call("jiffies")
    untouched(kernel)


def test_a_paused_guest_is_not_made_to_run(kernel: Kernel) -> None:
    kernel.pause()
    try:
        with pytest.raises(Misuse, match="is paused"):
            kernel.call("int_sqrt", 16)
        assert not kernel.qemu.runs()
    finally:
        kernel.resume()
    untouched(kernel)


CALLER = """
import sys
from kgdbpatch.kernel import Kernel
kernel = Kernel.attach(sys.argv[1])
with kernel.stopped():
    pass  # its GDB is there
print("ready", kernel.debugger.gdb_pid, flush=True)
kernel.call("msleep_interruptible", 2500)
"""


def test_a_client_and_its_debugger_die_while_the_function_runs(kernel: Kernel) -> None:
    with subprocess.Popen([sys.executable, "-c", CALLER, kernel.name], stdout=PIPE, text=True) as caller:
        assert caller.stdout is not None
        debugger = int(caller.stdout.readline().split()[1])
        physical = kernel.header.arena.physical
        deadline = time.monotonic() + 90
        while called(kernel, physical) != CallStatus.CALLED:
            assert time.monotonic() < deadline
            assert caller.poll() is None
        os.kill(debugger, signal.SIGKILL)
        caller.kill()
    while called(kernel, physical) == CallStatus.CALLED:
        assert time.monotonic() < deadline
    assert called(kernel, physical) == CallStatus.RETURNED
    assert kernel.verify().ok  # the gate's words are known
    assert kernel.call("int_sqrt", 25) == 5
    untouched(kernel)


def called(kernel: Kernel, physical: int) -> int:
    raw = kernel.qemu.ram.read(physical + layout.KERNEL_CALL_OFFSET, layout.KERNEL_CALL.itemsize)
    return int(np.frombuffer(raw, layout.KERNEL_CALL)[0]["status"])
