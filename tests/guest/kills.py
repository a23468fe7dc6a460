"""Twelve ways to kill a guest, most of them by a patch; which place does it is the kernel's own fact."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

from kgdbpatch.kernel import Kernel

# Where it is fatal: Darwin panics at any fault of the kernel's, Linux at one in an interrupt.
_OFTEN = {"darwin": "run_netisr", "linux": "scheduler_tick"}
_LOOPS = {"darwin": "run_netisr", "linux": "run_timer_softirq"}  # interrupts are on there, threads do not run
_TEXT = {"darwin": "thread_block", "linux": "timer_interrupt"}
_DATA = {"darwin": "version", "linux": "linux_banner"}
_RETURNS = {"darwin": "hardclock", "linux": "scheduler_tick"}  # and so does what calls it
_RESTART = "extern void machine_restart(char *); void f(void) { machine_restart(0); }"

_ASSEMBLER = {
    "wild store": "lis 9, {text}@ha\n addi 9, 9, {text}@l\n li 10, 0\n stw 10, 0(9)",
    "null store": "li 9, 0\n stw 9, 0(9)",
    "interrupts off": "mfmsr 9\n rlwinm 9, 9, 0, 17, 15\n mtmsr 9\n1: b 1b",
    "stack overrun": "mr 9, 1\n li 10, 0\n1: stwu 10, -4(9)\n b 1b",
    # SysV's place, in which the darwin guest's compiler keeps it too
    "bad return": "lwz 9, 0(1)\n li 10, 0\n stw 10, 4(9)",
}
_C = {
    "recursion": "int f(int); static int (*volatile again)(int) = f;\n"
    "int f(int n) {{ volatile char part[256]; part[0] = (char)n; return again(n + 1) + part[0]; }}",
    "jump to data": "extern char {data}[]; void f(void) {{ ((void (*)(void)){data})(); }}",
    "panic": 'extern void panic(const char *, ...); void f(void) {{ panic("killed by a patch"); }}',
}
WAYS = (*_ASSEMBLER, *_C, "endless loop", "reset", "QEMU killed", "QEMU stopped")
STATES = {
    "endless loop": {"hung"},
    "interrupts off": {"hung"},
    "panic": {"panicked"},
    "reset": {"reset"},
    "QEMU killed": {"ended"},
    "QEMU stopped": {"paused"},
}
LAST = {"panicked", "hung"}  # what the other ways come to, as chance will have it


def kill(kernel: Kernel, way: str) -> None:
    """Do to a guest what kills it, at once or soon."""
    guest = kernel.profile
    if way == "QEMU killed":
        os.kill(kernel.pid, signal.SIGKILL)
    elif way == "QEMU stopped":
        os.kill(kernel.pid, signal.SIGSTOP)
    elif way == "reset" and guest == "darwin":
        kernel.qemu.qmp("system_reset")  # nothing in the kernel does it
    elif way == "reset":
        _apply_c(kernel, "udp_sendmsg", _RESTART)
    elif way == "endless loop":
        kernel.patch(_LOOPS[guest], asm="1: b 1b")
    elif way in _C:
        _apply_c(kernel, _OFTEN[guest], _C[way].format(data=_DATA[guest]))
    else:
        text = _ASSEMBLER[way].format(text=_TEXT[guest])
        kernel.patch((_RETURNS if way == "bad return" else _OFTEN)[guest], asm=text)


def _apply_c(kernel: Kernel, site: str, text: str) -> None:
    with TemporaryDirectory() as scratch:
        path = Path(scratch, "kill.c")
        path.write_text(text)
        kernel.patch(site, c=path, entry="f")
