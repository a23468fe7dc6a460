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
from kgdbpatch.errors import Misuse, Refused, TargetBusy, TargetLost, TargetTimeout
from kgdbpatch.kernel import Kernel

FLAGS = 0xCC0  # GFP_KERNEL
BAD = {"panic": "no return", "do_exit": "no return", "start_kernel": "discarded", "_stext": "exception code"}

pytestmark = [pytest.mark.long, pytest.mark.kernel("linux"), pytest.mark.linux]


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
    with pytest.raises(Misuse, match="more than 32 bits"):
        kernel.call("int_sqrt", 1 << 32)
    with pytest.raises(Misuse, match="in the middle"):
        kernel.call("int_sqrt+0x8", 4)
    with pytest.raises(Misuse, match="a call has room"):
        kernel.call("strlen", bytes(1 << 15))
    for function, rule in BAD.items():
        with pytest.raises(Refused) as refused:
            kernel.call(function)
        assert refused.value.rule == rule, function
    untouched(kernel)


def test_the_value_is_what_the_kernel_says_itself(kernel: Kernel) -> None:
    """The pages beyond the zones' high marks, as /proc/zoneinfo has them."""
    position = kernel.log.position()
    kernel.send("read /proc/zoneinfo\n")
    kernel.log.wait("^done read", since=position, deadline=60)
    told = [line.message for line in kernel.log.lines() if line.message.startswith("read: ")]
    marks, managed = (
        [int(line.split()[-1]) for line in told if line.startswith(f"read: {kind}")]
        for kind in ("        high ", "        managed ")
    )
    pages = sum(there - mark for mark, there in zip(marks, managed, strict=True) if there > mark)
    assert pages > 1000
    assert kernel.call("nr_free_buffer_pages") == pages


def test_functions_of_strings(kernel: Kernel) -> None:
    for text in (b"", b"a", b"hello", bytes(range(1, 256)), b"x" * 16000):
        assert kernel.call("strlen", text) == len(text)
    assert kernel.call("strcmp", b"eth0", b"eth0") == 0
    assert kernel.call("strcmp", b"eth0", b"eth1") == 0xFFFF_FFFF
    assert kernel.call("simple_strtoul", b"-0x1f", 0, 0) == 0
    assert kernel.call("simple_strtoul", b"0x1f", 0, 0) == 0x1F
    assert kernel.call("simple_strtoul", b"755", 0, 8) == 0o755
    arena = kernel.header.arena
    at = kernel.call("strrchr", b"/dev/null", ord("/"))
    assert kernel.read_virtual(at, 6) == b"/null\0"
    assert arena.virtual < at < arena.virtual + arena.size
    untouched(kernel)


def test_what_is_allocated_is_freed(kernel: Kernel) -> None:
    """The same places come again, and nothing is left."""
    allocate = next(name for name in ("__kmalloc", "__kmalloc_noprof") if kernel.image.symbols.called(name))
    places, used = set[int](), kernel.arena_used
    for _ in range(40):
        at = kernel.call(allocate, 8000, FLAGS)
        kernel.call("kfree", at)
        places.add(at)
    assert 0 not in places
    assert len(places) < 20
    assert kernel.arena_used == used
    untouched(kernel)


def test_functions_of_modules(kernel: Kernel) -> None:
    position = kernel.log.position()
    kernel.send("insmod /lib/counter.ko\n")
    kernel.log.wait("^done insmod", since=position, deadline=60)
    with pytest.raises(Refused, match="may be unloaded") as refused:
        kernel.call("counter:counter_tick")
    assert refused.value.rule == "module"
    untouched(kernel)


@pytest.mark.parametrize(
    ("function", "arguments", "value", "type_", "text"),
    [
        ("kstrtobool", ['"maybe"', '"room"'], (1 << 32) - 22, "int", "-22 (0xffffffea)"),
        ("capable", ["21"], 1, "bool", "true"),
        ("int_pow", ["0x100000001", "1"], (1 << 32) + 1, "u64", "4294967297 (0x0000000100000001)"),
        ("int_pow", ["16", "9"], 16**9, "u64", "68719476736 (0x0000001000000000)"),
        ("strchr", ['"hello"', "108"], None, "char *", '"llo"'),
        ("kfree", ["NULL"], None, "void", ""),
        ("irq_default_primary_handler", ["1", "NULL"], 2, "irqreturn_t", "IRQ_WAKE_THREAD (2)"),
        ("get_pid_task", ["NULL", "PIDTYPE_PID"], 0, "struct task_struct *", "NULL"),
        ("find_vpid", ["99999"], 0, "struct pid *", "NULL"),
    ],
)
def test_the_value_by_its_type(
    kernel: Kernel, function: str, arguments: list[str], value: int | None, type_: str, text: str
) -> None:
    called = kernel.call_typed(function, *arguments)
    assert called.type == type_
    assert value is None or called.value == value
    assert called.text.endswith(text)
    untouched(kernel)


def test_arguments_are_checked(kernel: Kernel) -> None:
    for arguments, told in (
        (['"x"'], "takes 1 argument|a text is none"),
        ([], "msleep takes 1 argument, 0 given: void msleep"),
        (["1", "2"], "msleep takes 1 argument, 2 given"),
        (["-3000000000"], "does not fit"),
    ):
        with pytest.raises(Misuse, match=told):
            kernel.call_typed("msleep", *arguments)
    with pytest.raises(Misuse, match="has no constant 'PIDTYPE_PIX'; there are: PIDTYPE_PID"):
        kernel.call_typed("get_pid_task", "0", "PIDTYPE_PIX")
    untouched(kernel)


def test_sleeping_takes_its_time(kernel: Kernel) -> None:
    before = time.monotonic()
    kernel.call("msleep", 700)
    assert time.monotonic() - before > 0.5
    untouched(kernel)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_calls_among_bad_ones(kernel: Kernel) -> None:
    bad: list[tuple[str, tuple[int | bytes, ...]]] = [(name, ()) for name in BAD]
    bad += [("jiffies", ()), ("int_sqrt", (1 << 32,)), ("strlen", (b"x" * 99999,))]
    for number in range(1000):
        assert kernel.call("int_sqrt", number * number) == number
        for which in (2 * number, 2 * number + 1):
            function, arguments = bad[which % len(bad)]
            with pytest.raises((Misuse, Refused)) as told:
                kernel.call(function, *arguments)
            assert "\n" not in str(told.value)
        if number % 250 == 0:
            untouched(kernel)
    untouched(kernel)


def test_a_paused_guest_is_not_made_to_run(kernel: Kernel) -> None:
    kernel.pause()
    try:
        with pytest.raises(TargetLost, match="is paused"):
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
