"""Build the darwin guest's kernel from the sources beside this file: ``build.py DIRECTORY``.

With ``--tree`` the directory gets the sources themselves and an object beside each of the kernel's C files,
with what it was made from noted as Linux' Kbuild does: for whoever compiles a file anew.

The same sources and the same compiler give the same bytes, wherever they are.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from macho import convert  # noqa: E402 (this directory is no package)
from macho_object import convert_object  # noqa: E402

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
    -mcpu=750 -mmultiple -mno-gnu-attribute -msdata=none -mregnames -fleading-underscore -fcommon
    -ffreestanding -nostdlib -static -fno-pic -fno-pie -no-pie -fno-delete-null-pointer-checks
    -fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing
    -Wa,--noexecstack,-mregnames
"""
KERNEL = ["-msoft-float"]
DEBUG = ["-g", "-gno-record-gcc-switches"]  # for debuggers; the Mach-O file has none of it
HARD_FLOAT = {"floats.c", "floats.S", "fpu.S"}  # what uses the FPU in the kernel
KEXT = ["-msoft-float", "-mlongcall", "-mno-pltseq"]  # extensions are out of branch reach
KERNEL_DIRECTORIES = ("fs", "kern", "net", "ppc", "vm", "work")
KEEP_LOCALS = ["-Wa,--keep-locals"]  # `.L_handler300` and its like are symbols of Darwin's vectors


def sources() -> list[Path]:
    """Return the kernel's C and assembler files, in the order in which they are linked."""
    return sorted(path for name in KERNEL_DIRECTORIES for path in (HERE / name).glob("*.[cS]"))


def run(command: Iterable[object], place: Path = HERE) -> str:
    """Run a tool and return its output; end the program with the tool's own words when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"{words[0]} is not installed (Debian: gcc-powerpc-linux-gnu)")
    if done.returncode:
        sys.exit(f"{done.stderr or done.stdout}{words[0]} failed with exit code {done.returncode}")
    return done.stdout


def compile_one(source: Path, directory: Path, *extra: str, includes: str = "include") -> Path:
    """Compile one source file into ``directory``."""
    output = directory / f"{source.parent.name}-{source.name}.o"
    name = source.relative_to(HERE)
    names = [f"-ffile-prefix-map={there}=." for there in (HERE, directory)]
    where = [f"-I{HERE / includes}", f"-I{directory}", *names]
    run([COMPILER, *FLAGS.split(), *LIKE_GCC_2.split(), *extra, *where, "-c", HERE / name, "-o", output])
    return output


def compile_kernel(source: Path, directory: Path) -> Path:
    """Compile one of the kernel's files."""
    extra = [] if source.name in HARD_FLOAT else [*KERNEL]
    extra += DEBUG if source.suffix == ".c" else KEEP_LOCALS if source.stem == "lowmem_vectors" else []
    if source.name == "archive_data.S":
        extra = [*extra, f"-Wa,-I{directory}"]
    return compile_one(source, directory, *extra)


def build_program(source: Path, library: list[Path], directory: Path) -> bytes:
    """Return a program of the user space: a Mach-O executable."""
    code, elf = compile_one(source, directory, includes="user/lib"), directory / source.stem
    script = HERE / "user" / "user.ld"
    run([COMPILER, *FLAGS.split(), LINKER, "-T", script, code, *library, "-o", elf])
    return convert(elf.read_bytes())


def build_extension(source: Path, directory: Path) -> bytes:
    """Return a kernel extension: a Mach-O object."""
    code, elf = compile_one(source, directory, *KEXT), directory / source.stem
    run(["powerpc-linux-gnu-ld", "-r", "-d", "-T", HERE / "kext.ld", code, "-o", elf])
    return convert_object(elf.read_bytes())


PLACES = {"mach_init": "sbin", "syslogd": "sbin", "tail": "bin"}


def archive(files: dict[str, bytes]) -> bytes:
    """Return a tar file, the same for the same files."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return held.getvalue()


def build(directory: Path) -> None:
    """Build ``mach_kernel`` and ``mach_kernel.elf`` (for debuggers) into ``directory``."""
    with tempfile.TemporaryDirectory() as made, ThreadPoolExecutor(os.cpu_count()) as pool:
        scratch = Path(made)
        kernel = [p for p in sources() if p.name != "archive_data.S"]
        objects = pool.map(lambda source: compile_kernel(source, scratch), kernel)
        parts = sorted((HERE / "user" / "lib").glob("*.[cS]"))
        library = list(pool.map(lambda source: compile_one(source, scratch, includes="user/lib"), parts))
        programs = sorted((HERE / "user").glob("*.c"))
        images = pool.map(lambda source: build_program(source, library, scratch), programs)
        extensions = sorted((HERE / "kext").glob("*.c"))
        loadable = pool.map(lambda source: build_extension(source, scratch), extensions)
        files = {
            f"{PLACES.get(source.stem, 'usr/libexec')}/{source.stem}": image
            for source, image in zip(programs, images, strict=True)
        }
        for source, image in zip(extensions, loadable, strict=True):
            files[f"System/Library/Extensions/{source.stem}"] = image
        (scratch / "boot.tar").write_bytes(archive(files))
        data = compile_kernel(HERE / "fs" / "archive_data.S", scratch)
        elf = scratch / "mach_kernel.elf"
        run([COMPILER, *FLAGS.split(), LINKER, "-T", HERE / "kernel.ld", *objects, data, "-o", elf])
        (directory / "mach_kernel.elf").write_bytes(elf.read_bytes())
        (directory / "mach_kernel").write_bytes(convert(elf.read_bytes()))


def build_tree(directory: Path) -> None:
    """Copy the sources to ``directory`` and compile the kernel's C files there."""
    shutil.copytree(HERE, directory, dirs_exist_ok=True)

    def compile_there(source: Path) -> None:
        name = source.relative_to(HERE)
        place, stem = name.parent, name.stem
        extra = [] if name.name in HARD_FLOAT else KERNEL
        words = [COMPILER, *FLAGS.split(), *LIKE_GCC_2.split(), *extra, "-D__KERNEL__", "-Iinclude"]
        words += [f"-Wp,-MMD,{place}/.{stem}.o.d", "-c", "-o", f"{place}/{stem}.o", str(name)]
        run(words, directory)
        files = (directory / place / f".{stem}.o.d").read_text().replace("\\\n", " ").split()[1:]
        noted = [f"cmd_{place}/{stem}.o := {' '.join(words)}", f"source_{place}/{stem}.o := {name}"]
        noted += [f"deps_{place}/{stem}.o := \\", *(f"  {file} \\" for file in files), ""]
        (directory / place / f".{stem}.o.cmd").write_text(
            "\n\n".join(noted[:2]) + "\n\n" + "\n".join(noted[2:]) + "\n"
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_there, (source for source in sources() if source.suffix == ".c")))


def main() -> None:
    """Build the darwin guest's kernel: ``mach_kernel``, and ``mach_kernel.elf`` for debuggers."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path, help="where to put them")
    parser.add_argument("--tree", action="store_true", help="the sources, with the objects beside them")
    given = parser.parse_args()
    directory: Path = given.directory
    directory.mkdir(parents=True, exist_ok=True)
    (build_tree if given.tree else build)(directory)


if __name__ == "__main__":
    main()
