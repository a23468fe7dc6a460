"""Our command line at a terminal: width, colour, what takes long, Ctrl-C, Tab; and how it is in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from kgdbpatch.kernel import Kernel

from .conftest import Cli
from .test_failures import HOLDER, untouched
from .test_guest import PROGRAM

CTRL_C = "\x03"


def terminal(*arguments: object, width: int = 80, **environment: str) -> pexpect.spawn:
    """Run our command line under a terminal of its own."""
    around = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    return pexpect.spawn(
        sys.executable,
        [*PROGRAM[1:], *map(str, arguments)],
        dimensions=(24, width),
        env={**around, "TERM": "xterm-256color", **environment},
        encoding="utf-8",
        timeout=60,
    )


def rest(spawned: pexpect.spawn) -> tuple[str, int]:
    """Return what comes until the end, and the exit code."""
    spawned.expect(pexpect.EOF)
    spawned.wait()
    return spawned.before, spawned.exitstatus


def interrupted(spawned: pexpect.spawn) -> None:
    spawned.send(CTRL_C)
    said, code = rest(spawned)
    assert code == 130
    assert "Traceback" not in said


def test_tables_are_as_wide_as_the_terminal(kernel_file: Path):
    order = ("functions", kernel_file)
    begun = [(width, terminal(*order, width=width, NO_COLOR="1")) for width in (40, 80, 200)]
    listed = subprocess.run([*PROGRAM, *order], capture_output=True, text=True, check=True).stdout
    assert max(map(len, listed.splitlines())) > 40
    for width, spawned in begun:
        said, code = rest(spawned)
        assert code == 0
        assert "\x1b" not in said
        assert max(map(len, said.splitlines())) <= width
        # a cell may stand in several lines: nothing of it is left out
        assert sorted("".join(said.split())) == sorted("".join(listed.split()))


def test_colour_is_for_terminals(kernel_file: Path):
    assert "\x1b[1m" in rest(terminal("functions", kernel_file))[0]
    said = subprocess.run(
        [*PROGRAM, "functions", kernel_file],
        capture_output=True,
        env={**os.environ, "FORCE_COLOR": "1"},
        check=True,
    )
    assert b"\x1b" not in said.stdout + said.stderr


@pytest.fixture
def holder(kernel: Kernel) -> Iterator[subprocess.Popen[str]]:
    """Another client that has the guest for itself."""
    command = [sys.executable, "-c", HOLDER, kernel.name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


@pytest.mark.guest
def test_what_takes_long_is_told_at_a_terminal_alone(kernel: Kernel, holder: subprocess.Popen[str]):
    order = ("apply", kernel.name, "run_netisr", "--call", "splx", "--wait")
    waiting = terminal(*order, "30")
    waiting.expect("patching run_netisr")
    interrupted(waiting)
    dumb = terminal(*order, "1.5", TERM="dumb")
    piped = subprocess.run([*PROGRAM, *order, "1.5"], capture_output=True, text=True, check=False)
    assert (piped.returncode, piped.stdout) == (4, "")
    assert piped.stderr.startswith("kgdbpatch: error: ")
    assert len(piped.stderr.splitlines()) == 1
    said, code = rest(dumb)
    assert code == 4
    assert said.startswith("kgdbpatch: error: ")
    holder.communicate()
    untouched(kernel)


@pytest.mark.guest
def test_an_interrupted_log_leaves_the_guest_alone(kernel: Kernel):
    following = terminal("log", kernel.name, "-f", "--console")
    following.expect_exact("\n")
    interrupted(following)
    kernel.assure_alive()


@pytest.mark.guest
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_an_interrupted_batch_puts_nothing_in(kernel: Kernel):
    applying = terminal("apply", kernel.name, "*", "--count")
    applying.expect(r"planned [\d,]+ of")
    interrupted(applying)
    untouched(kernel)


@pytest.mark.guest
@pytest.mark.linux
def test_an_interrupted_boot_leaves_nothing(guest_cli: Cli):
    name = f"interrupted-{os.getpid()}"
    booting = terminal("boot", "linux", "--name", name)
    booting.expect("booting vmlinux")
    interrupted(booting)
    assert name not in guest_cli("ps").out
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(name.encode() in command for command in commands)


@pytest.mark.guest
def test_tab_names_guests_and_symbols(kernel: Kernel, tmp_path: Path):
    program = tmp_path / "kgdbpatch"
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from kgdbpatch.cli import main; main()' \"$@\"\n"
    )
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    shell = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile"],
        env={**os.environ, "PATH": path, "PS1": "> ", "TERM": "dumb"},
        dimensions=(24, 200),
        encoding="utf-8",
        timeout=30,
    )
    try:
        shell.sendline('eval "$(kgdbpatch --show-completion)"; complete -p kgdbpatch && echo read""y')
        shell.expect_exact("ready\r\n> ")
        for begun, offered in (
            ("shu", "shutdown"),
            ("boot dar", "darwin"),
            (f"log {kernel.name[:-2]}", kernel.name),
            (f"apply {kernel.name} run_net", "run_netisr"),
            (f"live {kernel.name} _run_net", "_run_netisr"),
        ):
            shell.send(f"kgdbpatch {begun}\t")
            shell.expect_exact(f"kgdbpatch {' '.join([*begun.split()[:-1], offered])} ")
            shell.send("\x15")  # Ctrl-U
    finally:
        shell.close(force=True)
