"""Build the darwin guest's kernel from the sources beside this file: ``build.py DIRECTORY``.

The same sources and the same compiler give the same bytes, wherever they are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from macho import convert  # noqa: E402 (this directory is no package)

COMPILER = "powerpc-linux-gnu-gcc"
LINKER = "-Wl,--build-id=none,--no-warn-rwx-segments,-znoexecstack"

# A compiler of 2001 inlined only what was marked so, cloned nothing and split no function.
LIKE_GCC_2 = """
    -fno-inline-functions -fno-inline-small-functions -fno-inline-functions-called-once
    -fno-partial-inlining -fno-ipa-cp -fno-ipa-sra -fno-ipa-icf -fno-ipa-ra
    -fno-reorder-blocks-and-partition -fno-tree-loop-distribute-patterns -fno-tree-vectorize
"""
FLAGS = """
    -std=gnu11 -O2 -Wall -Wextra -Werror -Wno-infinite-recursion -Wno-array-bounds
    -mcpu=750 -msoft-float -msdata=none -mregnames -fleading-underscore -fcommon
    -ffreestanding -nostdlib -static -fno-pic -fno-pie -no-pie -fno-delete-null-pointer-checks
    -fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing
    -Wa,--noexecstack,-mregnames
"""
KEEP_LOCALS = ["-Wa,--keep-locals"]  # `.L_handler300` and its like are symbols of Darwin's vectors


def sources() -> list[Path]:
    """Return the C and assembler files, in the order in which they are linked."""
    return sorted([*HERE.glob("*/*.c"), *HERE.glob("*/*.S")])


def run(command: Iterable[object]) -> str:
    """Run a tool and return its output; end the program with the tool's own words when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"{words[0]} is not installed (Debian: gcc-powerpc-linux-gnu)")
    if done.returncode:
        sys.exit(f"{done.stderr or done.stdout}{words[0]} failed with exit code {done.returncode}")
    return done.stdout


def compile_one(source: Path, directory: Path) -> Path:
    """Compile one source file into ``directory``."""
    output = directory / f"{source.parent.name}-{source.stem}.o"
    extra = KEEP_LOCALS if source.stem == "lowmem_vectors" else []
    name = source.relative_to(HERE)
    includes = [f"-I{HERE / 'include'}", f"-ffile-prefix-map={HERE}=."]
    run([COMPILER, *FLAGS.split(), *LIKE_GCC_2.split(), *extra, *includes, "-c", HERE / name, "-o", output])
    return output


def build(directory: Path) -> None:
    """Build ``mach_kernel`` and ``mach_kernel.elf`` (for debuggers) into ``directory``."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: compile_one(source, Path(scratch)), sources()))
        elf = Path(scratch) / "mach_kernel.elf"
        run([COMPILER, *FLAGS.split(), LINKER, "-T", HERE / "kernel.ld", *objects, "-o", elf])
        (directory / "mach_kernel.elf").write_bytes(elf.read_bytes())
        (directory / "mach_kernel").write_bytes(convert(elf.read_bytes()))


def main() -> None:
    """Build the darwin guest's kernel: ``mach_kernel``, and ``mach_kernel.elf`` for debuggers."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path, help="where to put them")
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    build(directory)


if __name__ == "__main__":
    main()
