"""The command console, at a terminal and in a script: Open Firmware's prompt and Linux's init answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pexpect
import pytest

from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

from .conftest import Cli, obeying_interrupts
from .test_guest import PROGRAM

pytestmark = pytest.mark.guest

LEAVE = "\x1d"  # Ctrl-]


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qemu]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KGDBPATCH_RUNTIME", str(tmp_path_factory.mktemp("run", numbered=True)))
        board = MachineDescription.load("g3beige")
        with Qemu.start("of", board, 64, ["-prom-env", "auto-boot?=false", "-nographic"]) as qemu:
            qemu.console.wait("^0 > $", 20, partial=True)
            yield qemu


def terminal(*arguments: str) -> pexpect.spawn:
    """Run our command line under a terminal of its own."""
    return pexpect.spawn(
        sys.executable,
        [*PROGRAM[1:], *arguments],
        timeout=60,
        encoding="utf-8",
        preexec_fn=obeying_interrupts,
    )


def modes(spawned: pexpect.spawn) -> list[object]:
    return termios.tcgetattr(spawned.child_fd)[:4]


@pytest.fixture
def at_console(firmware: Qemu) -> Iterator[pexpect.spawn]:
    spawned = terminal("console", firmware.name)
    before = modes(spawned)
    spawned.expect_exact("Ctrl-] leaves")
    spawned.expect_exact("0 > ")  # what stands there already
    yield spawned
    assert modes(spawned) == before  # whatever ended it
    spawned.close(force=True)
    firmware.console.send(" \r")  # nobody has the console any more


def left(spawned: pexpect.spawn) -> int:
    spawned.expect(pexpect.EOF)
    spawned.wait()
    ended: int = spawned.exitstatus if spawned.exitstatus is not None else -spawned.signalstatus
    return ended


def test_keys_reach_the_guest_and_leaving_leaves_it_running(
    firmware: Qemu, at_console: pexpect.spawn
) -> None:
    since = firmware.console.position()
    at_console.send("decimal 6 7 * .\r")
    at_console.expect_exact("6 7 * . 42")
    at_console.send("\x03\x1a")  # Ctrl-C and Ctrl-Z are the guest's, too
    at_console.send('." still" cr\r')
    at_console.expect_exact("cr still")
    at_console.send('." quickly" cr\r' + LEAVE + '." never" cr\r')  # what is typed before it is typed
    at_console.expect_exact("left 'of', which goes on")
    assert left(at_console) == 0
    firmware.console.wait("cr quickly", 5, since)
    lines = firmware.console.lines(since)
    assert any("cr still" in line for line in lines)  # the log has it all, too
    assert not any("never" in line for line in lines)
    assert firmware.hmp("info status") == "VM status: running"


def test_a_signal_puts_the_terminal_back(firmware: Qemu, at_console: pexpect.spawn) -> None:
    at_console.kill(signal.SIGTERM)
    assert left(at_console) == -signal.SIGTERM
    assert firmware.alive()


def test_an_interrupt_puts_the_terminal_back(at_console: pexpect.spawn) -> None:
    at_console.kill(signal.SIGINT)
    assert left(at_console) == 130


def test_one_at_a_time_and_the_holder_is_named(firmware: Qemu, at_console: pexpect.spawn) -> None:
    refused = subprocess.run(
        [*PROGRAM, "console", firmware.name, "--wait", "0"],
        input="x\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 4
    first, second = refused.stderr.splitlines()
    assert f"the console of guest 'of' is in use by process {at_console.pid}" in first
    assert "kgdbpatch log of --console -f" in second
    # it stands still now, which does not hold up the guest
    since = firmware.console.position()
    at_console.send(': many 40 0 do ." more than QEMU keeps" cr loop ." en" ." ough" cr ; many')
    firmware.console.wait("; many$", 10, since, partial=True)
    at_console.send("\r")
    firmware.console.wait("more than", 10, since)
    at_console.kill(signal.SIGSTOP)
    firmware.console.wait("^enough", 20, since)
    assert firmware.hmp("info status", deadline=5) == "VM status: running"
    at_console.kill(signal.SIGCONT)
    at_console.expect("\nenough")
    at_console.send(LEAVE)
    assert left(at_console) == 0


def test_a_dead_guest_is_told_in_a_line() -> None:
    board = MachineDescription.load("g3beige")
    with Qemu.start(
        f"dies-{os.getpid()}", board, 64, ["-prom-env", "auto-boot?=false", "-nographic"]
    ) as qemu:
        spawned = terminal("console", qemu.name)
        before = modes(spawned)
        spawned.expect_exact("leaves")
        qemu.process.kill()
        spawned.expect(rf"kgdbpatch: error: guest '{qemu.name}' is gone: QEMU ended \(killed by SIGKILL\)")
        assert left(spawned) == 4
        assert modes(spawned) == before


def piped(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "console", *arguments], input=text, capture_output=True, text=True, check=False
    )


def test_a_script_says_its_lines_and_reads_the_answers(firmware: Qemu) -> None:
    done = piped('decimal 20 3 * .\n." it is" 2 2 + .\n', firmware.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 3 * . 60" in done.stdout
    assert "it is4" in done.stdout


def test_a_script_waits_for_its_line(firmware: Qemu, guest_cli: Cli) -> None:
    done = piped('." wai" ." ted" cr\n', firmware.name, "--until", "waited")
    assert (done.returncode, done.stderr) == (0, "")
    failed = piped("", firmware.name, "--until", "no such", "--timeout", "0.3")
    assert failed.returncode == 4
    assert "no line like /no such/ on the console within 0.3 s" in failed.stderr
    assert guest_cli("console", firmware.name, "--until", "[").code == 2
