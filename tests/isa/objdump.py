"""Ask objdump what words mean: the judge of what is an instruction at all, and of its text."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["OBJDUMP", "mnemonics", "texts"]

OBJDUMP = "powerpc-linux-gnu-objdump"
_NOP = 0x60000000


def texts(words: npt.NDArray[np.uint32], *options: str, start: int = 0) -> list[str]:
    """Return the text of each word taken by itself, the n-th at ``start`` + 8n, single spaces in it."""
    if not len(words):
        return []
    # A nop after each word keeps objdump from taking two for one prefixed instruction.
    padded = np.full(2 * len(words), _NOP, dtype=">u4")
    padded[::2] = words
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "words")
        path.write_bytes(padded.tobytes())
        command = [OBJDUMP, "-D", "-z", "--no-show-raw-insn", "-b", "binary", "-m", "powerpc", "-EB"]
        command.append(f"--adjust-vma={start}")
        text = subprocess.run(
            [*command, *options, str(path)], capture_output=True, check=True, text=True
        ).stdout
    found = [" ".join(line.split("\t", 1)[1].split()) for line in text.splitlines() if ":\t" in line]
    assert len(found) == len(padded)
    return found[::2]


def mnemonics(words: npt.NDArray[np.uint32], *options: str) -> list[str]:
    """Return the mnemonic of each word taken by itself, "" where objdump prints .long."""
    found = [text.split(" ", 1)[0] for text in texts(words, *options)]
    return ["" if name == ".long" else name.rstrip("+-") for name in found]
