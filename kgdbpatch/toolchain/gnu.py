"""Run the GNU cross tools and put their complaints into `BadPatch`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kgdbpatch.errors import BadPatch, Misuse

__all__ = ["ToolMissing", "available", "complaint", "find", "link_script", "run", "run_words"]

_DEADLINE = 60.0  # seconds; a macro that expands for ever must not hang the client


class ToolMissing(Misuse):
    """A program of the cross tool chain is not installed."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        package = "gcc-powerpc-linux-gnu" if tool.endswith("gcc") else "binutils-powerpc-linux-gnu"
        package = "clang" if tool == "clang" else package
        super().__init__(f"{tool} is not installed (Debian package {package})")


def _name(tool: str) -> str:
    return os.environ.get("KGDBPATCH_CROSS", "powerpc-linux-gnu-") + tool


def available(tool: str) -> bool:
    """Tell whether a tool (``as``, ``ld``, ``gcc``…) of the cross tool chain is installed."""
    return shutil.which(_name(tool)) is not None


def find(tool: str) -> str:
    """Return the path of a cross tool; raise `ToolMissing`."""
    path = shutil.which(_name(tool))
    if path is None:
        raise ToolMissing(_name(tool))
    return path


def run(
    tool: str, *arguments: str | Path, about: str, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a cross tool on the user's file ``about``; return its end; `BadPatch` when it takes a minute."""
    return run_words([find(tool), *map(str, arguments)], about=about, text=text)


def run_words(
    command: Sequence[str], *, about: str, text: str | None = None, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program by its path and words, in ``directory``; as `run`."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            # bytes that are no UTF-8 go to the tool as they stood in the user's file
            input=b"" if text is None else text.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env=environment,
            cwd=directory,
            timeout=_DEADLINE,
            check=False,
        )
        output, errors = (out.decode("utf-8", "replace") for out in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, output, errors)
    except subprocess.TimeoutExpired as error:
        raise BadPatch(f"{about}: {Path(command[0]).name} did not end in {_DEADLINE:.0f} s") from error


_NOISE = re.compile(
    r"Assembler messages:|In function|In file included from|compilation terminated|"
    r"treating warnings as errors|warnings being treated as errors"
)
_NOTES = 20  # lines; more of them help nobody
_ERROR = re.compile(r"(?i)\b(?:fatal )?error\b|undefined reference|truncated to fit|overflow")


def complaint(output: str, about: str, tool: str) -> BadPatch:
    """Make a `BadPatch` of a tool's output: its first error, the whole output as notes."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip() and not _NOISE.search(line)]
    told = [line for line in lines if _ERROR.search(line)] or lines or [f"{tool} failed without a word"]
    first = told[0]
    error = BadPatch(first if about in first else f"{about}: {first}")
    for line in [line for line in lines if line != first][:_NOTES]:
        error.add_note(line)
    return error


def link_script(address: int, symbols: Mapping[str, int], body: Iterable[str]) -> str:
    """Return a linker script that defines ``symbols`` and lays ``body`` out from ``address`` on."""
    lines = [f'"{name}" = 0x{value:x};' for name, value in symbols.items()]
    lines += ["SECTIONS", "{", f". = 0x{address:x};", *body]
    discarded = "*(.comment .note* .PPC.EMB.apuinfo .eh_frame* .gnu.attributes .debug_*)"
    return "\n".join([*lines, f"/DISCARD/ : {{ {discarded} }}", "}", ""])
