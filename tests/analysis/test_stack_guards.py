"""Compilers call ``__stack_chk_fail`` without arguments: what it hands on to others is not looked after."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import analyses, offline

_GCC = "powerpc-linux-gnu-gcc"
pytestmark = pytest.mark.skipif(shutil.which(_GCC) is None, reason=f"{_GCC} is not installed")
HANDED_ON = {f"r{number}" for number in range(5, 11)}
SOURCE = """
#include <stdarg.h>
unsigned __stack_chk_guard;
volatile unsigned said;
void fill(char *, unsigned);
__attribute__((noreturn, noinline)) void halt(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    for (; *format; format++)
        said = *format == '%' ? va_arg(list, unsigned) : (unsigned char)*format;
    for (;;)
        ;
}
__attribute__((noreturn)) void NAME(void) { halt("overrun in %", __builtin_return_address(0)); }
__attribute__((noinline)) void fill(char *room, unsigned size) { while (size--) *room++ = size; }
unsigned guarded(unsigned size) { char room[64]; fill(room, size); return room[3] + said; }
OTHER
void _start(void) { said = guarded(64); }
"""


def built(directory: Path, name: str, other: str = "", *flags: str) -> Image:
    path = directory / "vmlinux"
    (directory / "a.c").write_text(SOURCE.replace("NAME", name).replace("OTHER", other))
    command = [
        _GCC,
        "-m32",
        "-O2",
        "-ffreestanding",
        "-fno-pie",
        "-no-pie",
        "-nostdlib",
        "-static",
        "-msoft-float",
    ]
    command += ["-mno-sdata", *flags, "-Wl,--build-id=none", str(directory / "a.c"), "-o", str(path)]
    subprocess.run(command, check=True)
    return Image.load(path)


def calls(image: Image, function: str, callee: str) -> list[int]:
    """Return where a function calls another."""
    found = image.function_at(image.lookup(function))
    assert found is not None
    words = offline.words(image, found.address, found.size // 4)
    places = range(found.address, found.end, 4)
    to = image.lookup(callee)
    return [
        at
        for at, word in zip(places, words.tolist(), strict=True)
        if word == 0x4800_0001 | to - at & 0x03FF_FFFC
    ]


def test_nothing_is_kept_for_it(tmp_path: Path) -> None:
    image = built(tmp_path, "__stack_chk_fail", "", "-fstack-protector-strong")
    (call,) = calls(image, "guarded", "__stack_chk_fail")
    checker = offline.site_checker(image)
    assert {*checker.live(call).free} >= HANDED_ON
    (onward,) = calls(image, "__stack_chk_fail", "halt")
    assert {"r3", "r4"} <= {*checker.live(onward).live}
    found = analyses.liveness(image)
    assert found.summaries.no_return.any()


def test_of_any_other_name_nobody_knows(tmp_path: Path) -> None:
    other = "void caller(unsigned n) { if (n) report(); said = n; }"
    image = built(tmp_path, "report", other, "-fno-stack-protector")
    (call,) = calls(image, "caller", "report")
    assert {*offline.site_checker(image).live(call).live} >= HANDED_ON
