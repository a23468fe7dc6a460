"""What comes with a compiled payload: the compiler's headers, its own library, memcpy and its like."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from kgdbpatch.isa import altivec, e500, ppc405, ppc440
from kgdbpatch.toolchain.gnu import complaint, run

__all__ = [
    "FLAGS",
    "MODELS",
    "SUPPORTED",
    "TARGET",
    "header_options",
    "library",
    "of_the_library",
    "support_object",
    "target_options",
]

# those with more instructions than the others
MODELS = {"7400": altivec.MODEL, "8540": e500.MODEL, "440": ppc440.MODEL, "405": ppc405.MODEL}
_OPTIONS = {"8540": ("-mno-isel",)}
TARGET = "750"  # the CPU that is compiled for where nobody says another

FLAGS = (
    *("-std=gnu17", "-O2", f"-mcpu={TARGET}", "-mbig-endian", "-m32"),
    *("-ffreestanding", "-fno-builtin", "-nostdinc"),
    *("-msoft-float", "-mno-altivec", "-msdata=none", "-G0", "-mno-relocatable"),
    *("-fno-pic", "-fno-pie", "-fno-common", "-fno-stack-protector", "-fno-strict-aliasing"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions", "-fno-ident"),
    *("-fno-stack-check", "-fcf-protection=none", "-fno-reorder-functions"),
    *("-fdiagnostics-color=never", "-fno-diagnostics-show-caret"),
    *("-Wall", "-Werror=implicit-function-declaration", "-Werror=implicit-int", "-Werror=int-conversion"),
)

# GCC: "requires the freestanding environment provide memcpy, memmove, memset and memcmp" (Standards)
SUPPORTED = ("memcpy", "memmove", "memset", "memcmp")

# The out-of-line savers of -Os keep to no calling convention: no veneer leads to the kernel's.
_HELPER = re.compile(r"_(?:save|rest)gpr_\d+(?:_x)?")


def target_options(target: str) -> tuple[str, ...]:
    """Return the options to compile for a CPU (``-mcpu=``), to follow `FLAGS`: no unit of it that is off."""
    if target == TARGET:
        return ()
    return (f"-mcpu={target}", "-msoft-float", "-mno-altivec", *_OPTIONS.get(target, ()))


@contextmanager
def header_options() -> Iterator[list[str]]:
    """Yield options by which a compiler finds its own headers and ours, and an empty C ``limits.h``."""
    with (
        tempfile.TemporaryDirectory(prefix="kgdbpatch-") as last,
        as_file(files("kgdbpatch.toolchain").joinpath("include")) as ours,
    ):
        Path(last, "limits.h").touch()
        yield [f"-I{ours}", "-iwithprefix", "include", "-iwithprefix", "include-fixed", "-idirafter", last]


@cache
def library() -> Path:
    """Return the compiler's own library: 64-bit division and the like."""
    return Path(run("gcc", "-m32", "-print-libgcc-file-name", about="gcc").stdout.strip())


@cache
def _held() -> frozenset[str]:
    """Return the names in the index of the compiler's library (the first member of an ``ar`` archive)."""
    with library().open("rb") as file:
        header = file.read(68)[8:]
        size = int(header[48:58]) if header.startswith(b"/ ") else 0
        index = file.read(size)
    count = int.from_bytes(index[:4], "big")
    return frozenset(name.decode() for name in index[4 + 4 * count :].split(b"\0")[:count])


def of_the_library(name: str) -> bool:
    """Tell whether a name is a helper that must come from the compiler's library, and does."""
    return bool(_HELPER.fullmatch(name)) and name in _held()


@cache
def support_object(names: frozenset[str], target: str = TARGET) -> bytes:
    """Return an object with those functions of `SUPPORTED` that are asked for."""
    with (
        tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory,
        as_file(files("kgdbpatch.toolchain").joinpath("support.c")) as source,
    ):
        made = Path(directory) / "support.o"
        done = run(
            "gcc",
            *(*FLAGS, *target_options(target), "-fno-tree-loop-distribute-patterns"),
            *(f"-DNEED_{name}" for name in sorted(names)),
            *("-c", "-o", made, source),
            about=source.name,
        )
        if done.returncode:
            raise complaint(done.stderr, source.name, "gcc")
        return made.read_bytes()
