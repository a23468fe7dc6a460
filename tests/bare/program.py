"""Assemble a harness."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["AS", "branch", "program"]

AS, _NM, _OBJCOPY = (f"powerpc-linux-gnu-{tool}" for tool in ("as", "nm", "objcopy"))


@cache
def program(source: Path) -> tuple[bytes, dict[str, int]]:
    """Return the code of a harness, which lies at address 0, and its symbols; it may include ``cases.s``."""
    with tempfile.TemporaryDirectory() as directory:
        built, raw = Path(directory, "harness.o"), Path(directory, "harness.bin")
        subprocess.run(
            [
                AS,
                "-mregnames",
                "-mppc",
                "-I",
                Path(__file__).parent,
                "-I",
                source.parent,
                "-o",
                built,
                source,
            ],
            check=True,
        )
        subprocess.run([_OBJCOPY, "-O", "binary", built, raw], check=True)
        listing = subprocess.run([_NM, built], check=True, capture_output=True, text=True).stdout
        rows = [line.split() for line in listing.splitlines()]
        return raw.read_bytes(), {name: int(value, 16) for value, _, name in rows}


def branch(at: int, to: int) -> int:
    """Return the word of a branch."""
    return 0x48000000 | (to - at) & 0x03FFFFFC
