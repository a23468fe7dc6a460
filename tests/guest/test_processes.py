"""A patch costs few processes: the compiler, one link, the debugger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel

# Prints each program that is started, then does what it is told.
COUNTING = """
import os, sys
def by_popen():
    return sys._getframe(2).f_globals["__name__"] == "subprocess"
def started(event, arguments):
    # from Python 3.13 on Popen may spawn: one program, two events
    if event == "subprocess.Popen" or (event in ("os.posix_spawn", "os.exec") and not by_popen()):
        print("started", os.path.basename(os.fsdecode(arguments[0])), flush=True)
    if event in ("os.fork", "os.forkpty"):
        print("started", event, flush=True)
sys.addaudithook(started)
from kgdbpatch.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("payload", "most"),
    [
        (["--c", "packet_counter.c"], {"powerpc-linux-gnu-gcc", "powerpc-linux-gnu-ld", "gdb-multiarch"}),
        (["--count"], {"gdb-multiarch"}),
    ],
    ids=["c", "count"],
)
def test_what_an_apply_starts(kernel: Kernel, examples: Path, payload: list[str], most: set[str]) -> None:
    command = [sys.executable, "-c", COUNTING, "apply", kernel.name, "run_netisr", *payload]
    done = subprocess.run(command, cwd=examples, capture_output=True, text=True, check=True)
    started = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("started ")]
    assert sorted(started) == sorted(most)
    kernel.remove_all()
