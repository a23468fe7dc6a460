"""Small ELF kernels for the tests: assembled and linked by the GNU tools, at an address of Linux's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image

__all__ = ["needs_binutils", "put_together"]

_AS, _LD, _STRIP = (f"powerpc-linux-gnu-{tool}" for tool in ("as", "ld", "strip"))

needs_binutils = pytest.mark.skipif(shutil.which(_LD) is None, reason=f"{_LD} is not installed")


def put_together(directory: Path, source: str, *options: str, strip: bool = False) -> Image:
    """Return the image of an assembler source; text from 0xc0000000. ``options`` are the linker's."""
    thing, whole = directory / "x.o", directory / "vmlinux"
    command = [_AS, "-mregnames", "-mppc", "-o", str(thing)]
    subprocess.run(command, input=source, text=True, check=True)
    layout = [f"--section-start=.text={0xC0000000:#x}", "-e", "_start"]
    subprocess.run([_LD, "-melf32ppc", *layout, *options, "-o", str(whole), str(thing)], check=True)
    if strip:
        subprocess.run([_STRIP, str(whole)], check=True)
    return Image.load(whole)
