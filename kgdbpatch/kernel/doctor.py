"""What this machine has of the programs that kgdbpatch runs, and how to get the others."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

__all__ = ["Finding", "examine", "first_line"]

_DEADLINE = 20.0  # seconds for a program to say its version


@dataclass(frozen=True, slots=True)
class Finding:
    """A program: its ``path`` and ``version`` where it is found, ``problem`` where it will not do.

    ``needed`` says what for, ``package`` is Debian's; ``required``: nothing runs without it.
    """

    name: str
    path: str | None
    version: str
    problem: str
    needed: str
    package: str
    required: bool

    @property
    def ok(self) -> bool:
        """Whether it is there and will do."""
        return not self.problem

    @property
    def install(self) -> str:
        """The command to type, on Debian."""
        return f"apt-get install {self.package}"


_CROSS = os.environ.get("KGDBPATCH_CROSS", "powerpc-linux-gnu-")
_PROGRAMS = (
    ("qemu-system-ppc", "to boot guests", "qemu-system-ppc", True),
    ("qemu-img", "to boot guests: their snapshots are kept in its files", "qemu-utils", True),
    ("gdb-multiarch", "to stop guests and to reach their memory", "gdb-multiarch", True),
    (f"{_CROSS}gcc", "for payloads in C, and to build the bundled guests", "gcc-powerpc-linux-gnu", False),
    (
        f"{_CROSS}ld",
        "for payloads in C, and to build the bundled guests",
        "binutils-powerpc-linux-gnu",
        False,
    ),
    (
        f"{_CROSS}as",
        "for GNU's own assembler; without it Keystone assembles",
        "binutils-powerpc-linux-gnu",
        False,
    ),
    ("dot", "for 'cfg --svg' and 'callgraph --svg'", "graphviz", False),
)


def examine() -> list[Finding]:
    """Look for every program, and ask each for its version."""
    return [_examined(*program) for program in _PROGRAMS]


def _examined(name: str, needed: str, package: str, required: bool) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, None, "", "is not installed", needed, package, required)
    version, problem = first_line(path, "-V" if name == "dot" else "--version")
    if not problem and name.startswith("gdb"):
        said, problem = first_line(path, "-nx", "-batch", "-ex", "python print(6 * 7)")
        if not problem and said != "42":
            problem = "has no Python in it"
    return Finding(name, path, version, problem, needed, package, required)


def first_line(*command: str) -> tuple[str, str]:
    """Return the first line that a program says, and what is wrong with it."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_DEADLINE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"does not run: {error}"
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return (lines[0] if lines else ""), (f"ends with {done.returncode}" if done.returncode else "")
