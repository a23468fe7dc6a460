"""The command gdb, at a terminal and in a script; the guest goes on afterwards as it was before."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from kgdbpatch.kernel import Kernel

from .test_console import left, terminal
from .test_guest import PROGRAM

PROMPT = "(gdb) "
SOURCE = "static int seen; int counted(void) { seen++; return seen; }"


def script(kernel: Kernel, *commands: str) -> subprocess.CompletedProcess[str]:
    words = [word for command in commands for word in ("-ex", command)]
    return subprocess.run(
        [*PROGRAM, "gdb", kernel.name, "--", "-nx", "-batch", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def at_gdb(kernel: Kernel) -> Iterator[pexpect.spawn]:
    spawned = terminal("gdb", kernel.name, "--", "-nx", "-ex", "set pagination off")
    spawned.expect_exact(PROMPT)
    yield spawned
    spawned.close(force=True)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param("run_netisr", marks=pytest.mark.kernel("darwin")),
        pytest.param("udp_sendmsg", marks=[pytest.mark.kernel("linux"), pytest.mark.linux, pytest.mark.long]),
    ],
)
def test_a_script_sees_names_of_patches(kernel: Kernel, function: str, tmp_path: Path) -> None:
    source = tmp_path / "counted.c"
    source.write_text(SOURCE)
    with kernel.patch(function, c=source) as patch:
        named = f"patch{patch.id}_counted"
        done = script(
            kernel, f"hbreak {named}", "continue", "bt 3", f"print *(int *)&patch{patch.id}_seen >= 0"
        )
        assert done.returncode == 0, done.stderr
        assert f"in {named} ()" in done.stdout
        assert f"in patch{patch.id} ()" in done.stdout
        assert "$1 = 1" in done.stdout
        assert kernel.qemu.runs()
        assert kernel.verify().ok
    kernel.proof_of_life()


def test_its_exit_code_is_ours(kernel: Kernel) -> None:
    assert script(kernel, "quit 7").returncode == 7
    assert kernel.qemu.runs()


def test_at_a_terminal(kernel: Kernel, at_gdb: pexpect.spawn) -> None:
    at_gdb.sendline("info symbol run_netisr")
    at_gdb.expect_exact("_run_netisr in section")
    at_gdb.expect_exact(PROMPT)
    refused = subprocess.run(
        [*PROGRAM, "bt", kernel.name, "--wait", "0"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 4
    assert f"guest '{kernel.name}' is in use by process {at_gdb.pid}; waited 0 s" in refused.stderr
    assert f"gdb {kernel.name}" in refused.stderr
    at_gdb.sendline("continue")
    at_gdb.expect_exact("Continuing.")
    kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
    at_gdb.sendintr()  # Ctrl-C stops the guest, and neither us nor GDB
    at_gdb.expect_exact("SIGINT")
    at_gdb.expect_exact(PROMPT)
    at_gdb.sendline("hbreak _hardclock")
    at_gdb.expect_exact(PROMPT)
    at_gdb.sendline("quit")
    assert left(at_gdb) == 0
    assert kernel.qemu.runs()
    kernel.proof_of_life()


def test_a_paused_guest_is_paused_afterwards(kernel: Kernel, at_gdb: pexpect.spawn) -> None:
    at_gdb.sendline("quit")
    left(at_gdb)
    kernel.pause()
    assert script(kernel, "info registers pc").returncode == 0
    assert not kernel.qemu.runs()
    assert script(kernel, "detach").returncode == 0
    assert not kernel.qemu.runs()
    assert kernel.resume()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_and_the_guest_goes_on(
    kernel: Kernel, at_gdb: pexpect.spawn, number: signal.Signals
) -> None:
    at_gdb.sendline("hbreak _hardclock")
    at_gdb.expect_exact(PROMPT)
    at_gdb.kill(number)
    at_gdb.expect(pexpect.EOF)
    at_gdb.wait()
    assert kernel.qemu.runs()
    kernel.proof_of_life()


def test_a_killed_gdb_leaves_no_breakpoint(kernel: Kernel, at_gdb: pexpect.spawn) -> None:
    at_gdb.sendline("hbreak _hardclock")
    at_gdb.expect_exact(PROMPT)
    at_gdb.sendline("python import os; os.kill(os.getpid(), 9)")
    assert left(at_gdb) == 128 + signal.SIGKILL
    assert kernel.qemu.runs()
    kernel.proof_of_life()
    assert kernel.registers()
