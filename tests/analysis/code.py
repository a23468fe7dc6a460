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

from kgdbpatch.image import Image

__all__ = ["BASE", "assemble", "link", "needs_as"]

BASE = 0x00010000
_AS, _LD, _OBJCOPY = "powerpc-linux-gnu-as", "powerpc-linux-gnu-ld", "powerpc-linux-gnu-objcopy"

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


def link(source: str, place: Path, *options: str | Path) -> Image:
    """Return the image of a source that is assembled and linked in the folder ``place``."""
    options = options or ("-Ttext=0xc0001000",)
    thing, image = place / "x.o", place / "x.elf"
    subprocess.run([_AS, "-mregnames", "-mppc", "-o", thing], input=f"{source}\n", text=True, check=True)
    subprocess.run([_LD, "-melf32ppc", "-e0", *options, "-o", image, thing], check=True)
    return Image.load(image)
