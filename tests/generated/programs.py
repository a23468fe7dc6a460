"""Programs that nobody here wrote: csmith's, compiled in many ways by two compilers."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["BASE", "Program", "build", "source", "variant"]

BASE = 0x0100_0000  # where every program is linked
_HERE = Path(__file__).parent
_GCC, _LD, _AS = (f"powerpc-linux-gnu-{tool}" for tool in ("gcc", "ld", "as"))
_INCLUDE = "/usr/powerpc-linux-gnu/include"

_CSMITH = ("--no-argc", "--quiet", "--max-funcs", "12", "--max-array-dim", "2", "--max-block-depth", "4")
_CSMITH_CHOICES = (
    *("--no-safe-math", "--float", "--no-longlong", "--no-jumps", "--no-pointers"),
    *("--inline-function", "--no-packed-struct", "--no-volatiles", "--no-arrays", "--no-unions"),
)
_LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
_ALWAYS = ("-mcpu=750", "-mbig-endian", "-fno-pie", "-w", "-fwrapv", "-fno-strict-aliasing")
# each is taken or left by chance
_GCC_CHOICES = (
    *("-mmultiple", "-mno-multiple", "-fipa-ra", "-fno-ipa-ra", "-fpic", "-fPIC", "-fstack-protector-all"),
    *("-fstack-protector-strong", "-ffunction-sections", "-fdata-sections", "-fno-omit-frame-pointer"),
    *("-mlongcall", "-fno-inline", "-fno-jump-tables", "-msoft-float", "-fno-shrink-wrap", "-msdata=none"),
    *("-fno-optimize-sibling-calls", "-fcaller-saves", "-funroll-loops", "-fno-gcse"),
    *("-mno-update", "-fschedule-insns", "-fno-schedule-insns2", "-fno-reorder-blocks", "-msched-prolog"),
    *("-mno-sched-prolog", "-fconserve-stack", "-mstrict-align", "-fselective-scheduling2"),
    *("-freorder-blocks-and-partition", "-fno-section-anchors", "-mno-fused-madd"),
)
_CLANG_CHOICES = (
    *("-fpic", "-fPIC", "-fstack-protector-all", "-fstack-protector-strong", "-ffunction-sections"),
    *("-fdata-sections", "-fno-omit-frame-pointer", "-fno-inline", "-fno-jump-tables", "-msoft-float"),
    *("-fno-optimize-sibling-calls", "-funroll-loops", "-Oz", "-fno-unroll-loops", "-fno-vectorize"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program to be compiled: csmith's seed and options, compiler, flags."""

    seed: int
    csmith: tuple[str, ...]
    compiler: str
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return f"csmith --seed {self.seed} {' '.join(self.csmith)}; {self.compiler} {' '.join(self.flags)}"


def _some(rng: random.Random, choices: Sequence[str], most: int) -> tuple[str, ...]:
    return tuple(rng.sample(choices, rng.randint(0, most)))


def variant(seed: int, number: int) -> Program:
    """Return the program of ``seed`` in one of its ways: every level of both compilers in turn."""
    rng = random.Random(seed)
    csmith = _some(rng, _CSMITH_CHOICES, 3)
    rng = random.Random(f"{seed}.{number}")
    compiler = ("gcc", "clang")[number % 2]
    level = _LEVELS[(seed + number // 2) % len(_LEVELS)]
    choices = _some(rng, _GCC_CHOICES if compiler == "gcc" else _CLANG_CHOICES, 4)
    if compiler == "gcc" and level == "-Os" and rng.random() < 0.5:
        choices = ("-mno-multiple", *choices)  # registers are saved by helpers of libgcc's
    if "-msoft-float" in choices:  # libgcc's arithmetic takes floating-point registers
        csmith = tuple(option for option in csmith if option != "--float")
    return Program(seed, csmith, compiler, (level, *choices))


def source(program: Program, directory: Path) -> Path:
    """Write csmith's program into a directory and return its path."""
    path = directory / f"csmith{program.seed}{''.join(program.csmith)}.c"
    if not path.exists():
        command = ["csmith", "--seed", str(program.seed), *_CSMITH, *program.csmith, "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=directory)
    return path


@cache
def _gcc_file(name: str) -> str:
    asked = subprocess.run([_GCC, f"-print-file-name={name}"], check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def _compiler(program: Program) -> list[str]:
    if program.compiler == "gcc":
        return [_GCC, "-m32", *_ALWAYS, "-ffp-contract=off", *program.flags]
    return [
        "clang",
        "--target=powerpc-linux-gnu",
        "-isystem",
        _INCLUDE,
        *_ALWAYS,
        "-ffp-contract=off",
        *program.flags,
    ]


def build(program: Program, directory: Path, *more: Path) -> Path:
    """Compile and link a program for `BASE`; return the ELF file. Raises `CalledProcessError`.

    ``more`` are assembler sources that belong to it.
    """
    written = source(program, directory)
    target, objects = directory / "program", []
    # gcc 12 forgets the static chain of nested functions then
    without = ["-DNO_NESTED"] if "-mlongcall" in program.flags or program.compiler == "clang" else []
    without += ["-DNO_FLOAT"] if "-msoft-float" in program.flags else []
    ways = (
        (written, ["-I/usr/include/csmith", "-Dmain=csmith_main"]),
        (_HERE / "shapes.c", [f"-DSEED={program.seed}", *without]),
        (_HERE / "runtime.c", ["-ffreestanding", "-fno-builtin"]),
    )
    for path, extra in ways:
        thing = directory / f"{path.stem}.o"
        command = [*_compiler(program), *extra, "-c", str(path), "-o", str(thing)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        objects.append(thing)
    for path in (_HERE / "scribble.s", *more):
        thing = directory / f"{path.stem}.o"
        if not thing.exists():
            subprocess.run([_AS, "-mppc", "-o", str(thing), str(path)], check=True)
        objects.append(thing)
    command = [
        _LD,
        "-melf32ppc",
        "-N",
        "-static",
        f"-Ttext={BASE:#x}",
        "--no-warn-rwx-segments",
        "--no-warn-mismatch",
    ]
    command += ["--defsym=__stack_chk_fail_local=__stack_chk_fail", "-e", "main", "-o", str(target)]
    command += map(str, (*objects, _gcc_file("libgcc.a")))
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target
