"""Our command line at a terminal: width, colour, what takes long, Ctrl-C, Tab; and how it is in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from kgdbpatch.guests.recipe import Recipe
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.process import processes_with

from .conftest import Cli, obeying_interrupts
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
        preexec_fn=obeying_interrupts,
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


def test_tables_are_as_wide_as_the_terminal_and_coloured_only_there(kernel_file: Path) -> None:
    order = ("functions", kernel_file)
    begun = [
        (width, terminal(*order, width=width, NO_COLOR="1" if width < 80 else "")) for width in (40, 80, 200)
    ]
    around = {**os.environ, "FORCE_COLOR": "1"}
    done = subprocess.run([*PROGRAM, *order], capture_output=True, text=True, check=True, env=around)
    assert "\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) > 40
    for width, spawned in begun:
        said, code = rest(spawned)
        assert code == 0
        assert ("\x1b[1m" in said) == (width >= 80)
        plain = re.sub(r"\x1b\[\d*m", "", said)
        assert max(map(len, plain.splitlines())) <= width
        # a cell may stand in several lines: nothing of it is left out
        assert sorted("".join(plain.split())) == sorted("".join(done.stdout.split()))


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
def test_what_takes_long_is_told_at_a_terminal_alone(kernel: Kernel, holder: subprocess.Popen[str]) -> None:
    order = ("apply", kernel.name, "run_netisr", "--call", "splx", "--wait")
    waiting = terminal(*order, "30")
    waiting.expect("patching run_netisr")
    interrupted(waiting)
    dumb = terminal(*order, "1.2", TERM="dumb")
    piped = subprocess.run([*PROGRAM, *order, "1.2"], capture_output=True, text=True, check=False)
    assert (piped.returncode, piped.stdout) == (4, "")
    assert piped.stderr.startswith("kgdbpatch: error: ")
    assert len(piped.stderr.splitlines()) == 1
    said, code = rest(dumb)
    assert code == 4
    assert said.startswith("kgdbpatch: error: ")
    holder.communicate()
    untouched(kernel)


@pytest.mark.guest
def test_an_interrupted_log_leaves_the_guest_alone(kernel: Kernel) -> None:
    following = terminal("log", kernel.name, "-f", "--console")
    following.expect_exact("\n")
    interrupted(following)
    kernel.assure_alive()


@pytest.mark.soak
@pytest.mark.guest
@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_an_interrupted_batch_puts_nothing_in(kernel: Kernel) -> None:
    applying = terminal("apply", kernel.name, "*", "--count")
    applying.expect(r"planned [\d,]+ of")
    interrupted(applying)
    untouched(kernel)


@pytest.mark.guest
def test_an_interrupted_boot_leaves_nothing(guest_cli: Cli, tmp_path: Path) -> None:
    name = f"interrupted-{os.getpid()}"
    recipe = tmp_path / "never.toml"  # a guest that is booting until somebody interrupts it
    recipe.write_text(re.sub(r"(?m)^ready = .*", "ready = 'never said'", Recipe.find("darwin").text))
    booting = terminal("boot", recipe, "--name", name)
    booting.expect("booting mach_kernel")
    try:
        interrupted(booting)
        assert name not in guest_cli("ps").out
        assert processes_with(name) == []  # QEMU is told its guest's name
    finally:
        booting.close(force=True)
        for left in processes_with(name):
            left.kill()


@pytest.mark.guest
def test_tab_names_guests_and_symbols(kernel: Kernel, tmp_path: Path) -> None:
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
        ):
            shell.send(f"kgdbpatch {begun}\t")
            shell.expect_exact(f"kgdbpatch {' '.join([*begun.split()[:-1], offered])} ")
            shell.send("\x15")  # Ctrl-U
    finally:
        shell.close(force=True)
