"""Build the darwin guest's ``mach_kernel`` and print its path; see ``--help``.

The result is cached under a key made of every source file, this builder and the compiler's own
words about its version, so a changed file is a new kernel and an unchanged one is never built twice.
"""

from __future__ import annotations

import argparse
import hashlib
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

COMPILER = os.environ.get("KGDBPATCH_CC", "powerpc-linux-gnu-gcc")
LINKER = "-Wl,--build-id=none,--no-warn-rwx-segments,-znoexecstack"

# A compiler of 2001 inlined only what was marked so, cloned nothing and split no function.
LIKE_GCC_2 = """
    -fno-inline-functions -fno-inline-small-functions -fno-inline-functions-called-once
    -fno-partial-inlining -fno-ipa-cp -fno-ipa-sra -fno-ipa-icf -fno-ipa-ra
    -fno-reorder-blocks-and-partition -fno-tree-loop-distribute-patterns -fno-tree-vectorize
""".split()
FLAGS = """
    -std=gnu11 -O2 -Wall -Wextra -Werror -Wno-infinite-recursion -Wno-array-bounds
    -mcpu=750 -msoft-float -msdata=none -mregnames -fleading-underscore -fcommon
    -ffreestanding -nostdlib -static -fno-pic -fno-pie -no-pie -fno-delete-null-pointer-checks
    -fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing
    -Wa,--noexecstack,-mregnames
""".split()
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


def key() -> str:
    """Return the name of the build: a hash of all that goes into it."""
    digest = hashlib.sha256(run([COMPILER, "-v", "--version"]).encode())
    digest.update(run([COMPILER, "-Wa,--version", "-c", "-xassembler", "/dev/null", "-o/dev/null"]).encode())
    headers = sorted(HERE.glob("include/*.h"))
    for path in [*sources(), *headers, HERE / "kernel.ld", HERE.parent / "macho.py", Path(__file__).resolve()]:
        digest.update(f"{path.relative_to(HERE.parent)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compile_one(source: Path, directory: Path) -> Path:
    """Compile one source file into ``directory``."""
    output = directory / f"{source.parent.name}-{source.stem}.o"
    extra = KEEP_LOCALS if source.stem == "lowmem_vectors" else []
    name = source.relative_to(HERE)
    includes = [f"-I{HERE / 'include'}", f"-ffile-prefix-map={HERE}=."]
    run([COMPILER, *FLAGS, *LIKE_GCC_2, *extra, *includes, "-c", HERE / name, "-o", output])
    return output


def build(directory: Path) -> None:
    """Build ``mach_kernel`` and ``mach_kernel.elf`` (for debuggers) into ``directory``."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: compile_one(source, Path(scratch)), sources()))
        elf = Path(scratch) / "mach_kernel.elf"
        run([COMPILER, *FLAGS, LINKER, "-T", HERE / "kernel.ld", *objects, "-o", elf])
        (directory / "mach_kernel.elf").write_bytes(elf.read_bytes())
        (directory / "mach_kernel").write_bytes(convert(elf.read_bytes()))


def main() -> None:
    """Print the path of the kernel under a cache directory, after building it when there is none."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("cache", type=Path, help="where builds are kept")
    parser.add_argument("--find", action="store_true", help="build nothing: print nothing when there is none")
    arguments = parser.parse_args()
    place = arguments.cache / f"darwin-{key()}"
    if not (place / "mach_kernel").exists():
        if arguments.find:
            return
        arguments.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".darwin-", dir=arguments.cache) as fresh:
            build(Path(fresh))
            place.mkdir(exist_ok=True)
            for path in sorted(Path(fresh).iterdir(), key=lambda path: path.name == "mach_kernel"):
                path.replace(place / path.name)  # the kernel last: its presence says that all is there
    print(place / "mach_kernel")


if __name__ == "__main__":
    main()
