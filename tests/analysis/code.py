"""Small functions for the tests: assembled by GNU as."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

__all__ = ["BASE", "assemble", "needs_as"]

BASE = 0x00010000
_AS, _OBJCOPY = "powerpc-linux-gnu-as", "powerpc-linux-gnu-objcopy"

needs_as = pytest.mark.skipif(shutil.which(_AS) is None, reason=f"{_AS} is not installed")


@cache
def assemble(source: str) -> npt.NDArray[np.uint32]:
    """Return the words of a source that stands at ``BASE``; what is outside is ``far+N``."""
    with tempfile.TemporaryDirectory() as directory:
        thing, raw = Path(directory, "x.o"), Path(directory, "x.bin")
        text = f".set far, here + 0x4000\nhere:\n{source}\n"
        command = [_AS, "-mregnames", "-mppc", "-o", str(thing)]
        subprocess.run(command, input=text, text=True, check=True)
        subprocess.run([_OBJCOPY, "-O", "binary", "-j", ".text", str(thing), str(raw)], check=True)
        return np.frombuffer(raw.read_bytes(), ">u4").astype(np.uint32)
