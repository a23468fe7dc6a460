"""The functions of a Darwin kernel are called, which has no room for a gate in its own text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from subprocess import PIPE

import numpy as np
import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.kernel_calls import pending
from kgdbpatch.component.layout import CallStatus
from kgdbpatch.errors import DeadKernel, Misuse, Refused
from kgdbpatch.kernel import Kernel

pytestmark = pytest.mark.kernel("darwin")


def untouched(kernel: Kernel) -> None:
    """Assert that nothing of a call is left, and that the guest finds nothing wrong with itself."""
    physical = kernel.header.arena.physical
    assert pending(kernel.qemu.ram, physical) is None
    assert not any(kernel.qemu.ram.read(physical + layout.GATE_OFFSET, 64))
    assert kernel.verify().ok
    position = kernel.log.position()
    assert kernel.log.wait(r"\b0 bad", since=position, deadline=30)


def test_functions_give_their_values(kernel: Kernel) -> None:
    for word in (1, 0x8000_0000, 0x1234_5678):
        assert kernel.call("ffsbit", word) == 32 - word.bit_length()
        assert kernel.call("byte_reverse", word) == int(np.uint32(word).byteswap())
    assert kernel.call("strlen", b"mach_kernel") == 11
    assert kernel.call("strcmp", b"same", b"same") == 0
    untouched(kernel)


def test_it_may_be_called_while_patches_are_in(kernel: Kernel) -> None:
    with kernel.patch("strlen", count=True) as patch:
        before = patch.hits
        assert kernel.call("strlen", b"four") == 4
        assert before is not None
        assert (patch.hits or 0) > before
    untouched(kernel)


def test_what_is_allocated_is_freed(kernel: Kernel) -> None:
    places = set[int]()
    for _ in range(40):
        at = kernel.call("kalloc", 600)
        kernel.call("kfree", at, 600)
        places.add(at)
    assert 0 not in places
    assert len(places) < 20
    untouched(kernel)


def test_what_cannot_be_called(kernel: Kernel) -> None:
    for function, rule in (("panic", "no return"), (".L_handler1200", "exception code")):
        with pytest.raises(Refused) as refused:
            kernel.call(function)
        assert refused.value.rule == rule, function
    untouched(kernel)


CALLER = """
import sys
from kgdbpatch.kernel import Kernel
kernel = Kernel.attach(sys.argv[1])
with kernel.stopped():
    pass  # its GDB is there
print("ready", kernel.debugger.gdb_pid, flush=True)
kernel.call("tsleep", 0x1234, 300)
"""


def status(kernel: Kernel) -> int:
    at = kernel.header.arena.physical + layout.KERNEL_CALL_OFFSET
    return int(np.frombuffer(kernel.qemu.ram.read(at, layout.KERNEL_CALL.itemsize), layout.KERNEL_CALL)[0][0])


def test_a_client_and_its_debugger_die_while_the_function_sleeps(kernel: Kernel) -> None:
    deadline = time.monotonic() + 90
    with subprocess.Popen([sys.executable, "-c", CALLER, kernel.name], stdout=PIPE, text=True) as caller:
        assert caller.stdout is not None
        debugger = int(caller.stdout.readline().split()[1])
        while status(kernel) != CallStatus.CALLED:
            assert time.monotonic() < deadline
            assert caller.poll() is None
        os.kill(debugger, signal.SIGKILL)
        caller.kill()
    with kernel.patch("run_netisr", count=True):  # what is written meanwhile is not where the call is
        assert kernel.verify().ok
        while status(kernel) == CallStatus.CALLED:
            assert time.monotonic() < deadline
    assert kernel.call("strlen", b"next") == 4
    untouched(kernel)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_thousand_calls(kernel: Kernel) -> None:
    for number in range(1, 1001):
        assert kernel.call("ffsbit", number) == 32 - number.bit_length()
    untouched(kernel)


@pytest.mark.panics
def test_a_kernel_that_dies_of_a_call_is_told(kernel: Kernel) -> None:
    with pytest.raises(DeadKernel, match="panicked"):
        kernel.call("strlen", 0xE000_0000, deadline=3)


def test_the_value_by_its_type(kernel: Kernel) -> None:
    called = kernel.call_typed("strncmp", '"mach"', '"machine"', "4")
    assert (called.value, called.type, called.text) == (0, "int", "0 (0x00000000)")
    before, after = (kernel.call_typed("mach_absolute_time") for _ in range(2))
    assert before.type == "uint64_t"
    assert before.value is not None
    assert after.value is not None
    assert before.value < after.value < before.value + (1 << 36)
    with pytest.raises(Misuse, match=r"strlen takes 1 argument, 0 given: size_t strlen\(const char \*s\);"):
        kernel.call_typed("strlen")
