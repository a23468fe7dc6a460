"""What only the Linux guest offers: a loop that times itself, and the kernel's own kprobe events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kgdbpatch.errors import CommandFailed
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.kernel import Kernel

__all__ = ["calm", "command", "function_tracer", "kprobe_event", "udp_instructions"]

_DEADLINE = 120.0  # seconds for one command of init
_TRACING = "/sys/kernel/tracing"
_TRACED_WITHIN = 4  # instructions from a function's entry on: one of them calls the tracer
_TIMEBASE = re.compile(r"read: timebase\s*: (\d+)")


def command(kernel: Kernel, text: str) -> str:
    """Have init carry out a console command (images/linux/commands.c); return its answer.

    Raises `CommandFailed` with init's words.
    """
    mark = kernel.log.position()
    kernel.send(f"{text}\n")
    answer = kernel.log.wait(f"^(done|failed) {re.escape(text)}", deadline=_DEADLINE, since=mark).message
    if answer.startswith("failed"):
        raise CommandFailed(f"the guest's init {answer}")
    return answer


def _timebase(kernel: Kernel) -> int:
    """Return the time base's frequency in Hz, as the guest tells it."""
    mark = kernel.log.position()
    command(kernel, "read /proc/cpuinfo")
    for line in kernel.log.lines(mark):
        if found := _TIMEBASE.search(line.message):
            return int(found[1])
    raise CommandFailed("the guest's /proc/cpuinfo does not tell the time base's frequency")


@contextmanager
def calm(kernel: Kernel) -> Iterator[None]:
    """Let the guest's workers stand still meanwhile."""
    command(kernel, "pause")
    try:
        yield
    finally:
        command(kernel, "resume")


def udp_instructions(kernel: Kernel, rounds: int, *, loops: int = 1) -> float:
    """Return guest instructions one datagram sent and received takes, on average over ``rounds``.

    The guest must have been booted with ``icount="shift=0,…"``: one instruction takes 1 ns of its
    time. Of several ``loops`` the least is returned: other work of the kernel's disturbs it least.
    Resolution: one tick of the time base (60 instructions) and one clock interrupt (some 3000)
    over all rounds.
    """
    frequency = _timebase(kernel)
    ticks = min(int(command(kernel, f"udp {rounds}").split()[-1]) for _ in range(loops))
    return ticks * 1e9 / frequency / rounds


@contextmanager
def kprobe_event(kernel: Kernel, definition: str, name: str = "kgdbpatch_bench") -> Iterator[None]:
    """Keep a kprobe event, such as ``udp_sendmsg length=%gpr5:u32``, enabled meanwhile."""
    events = f"write {_TRACING}/kprobe_events"
    enable = f"write {_TRACING}/events/kprobes/{name}/enable"
    command(kernel, f"{events} p:{name} {definition}")
    try:
        command(kernel, f"{enable} 1")
        yield
        command(kernel, f"{enable} 0")
    finally:
        command(kernel, f"{events} -:{name}")


@contextmanager
def function_tracer(kernel: Kernel, function: str) -> Iterator[int]:
    """Have the kernel's function tracer (ftrace) trace one function meanwhile; give where that calls it."""
    command(kernel, f"write {_TRACING}/set_ftrace_filter {function}")
    command(kernel, f"write {_TRACING}/current_tracer function")
    try:
        entry = kernel.resolve(function)
        words = kernel._text.raw_words(entry, _TRACED_WITHIN)
        calls = (decode(int(word), entry + 4 * number) for number, word in enumerate(words))
        yield next(one.address for one in calls if one.kind is Kind.CALL)
    finally:
        command(kernel, f"write {_TRACING}/current_tracer nop")
        command(kernel, f"write {_TRACING}/set_ftrace_filter ")
