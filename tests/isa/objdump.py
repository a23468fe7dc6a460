"""Ask objdump what words mean: the judge of what is an instruction at all."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["OBJDUMP", "mnemonics"]

OBJDUMP = "powerpc-linux-gnu-objdump"
_NOP = 0x60000000


def mnemonics(words: npt.NDArray[np.uint32], *options: str) -> list[str]:
    """Return the mnemonic of each word taken by itself, "" where objdump prints .long."""
    if not len(words):
        return []
    # A nop after each word keeps objdump from taking two for one prefixed instruction.
    padded = np.full(2 * len(words), _NOP, dtype=">u4")
    padded[::2] = words
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "words")
        path.write_bytes(padded.tobytes())
        command = [OBJDUMP, "-D", "-z", "--no-show-raw-insn", "-b", "binary", "-m", "powerpc", "-EB"]
        text = subprocess.run(
            [*command, *options, str(path)], capture_output=True, check=True, text=True
        ).stdout
    found = [line.split("\t", 1)[1].split(maxsplit=1)[0] for line in text.splitlines() if ":\t" in line]
    assert len(found) == len(padded)
    return ["" if name == ".long" else name.rstrip("+-") for name in found[::2]]
