"""Calls that never come back: by hand-made code, by compilers, and by kernels with stack protectors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.analysis.function_starts import guess_functions
from kgdbpatch.analysis.no_return import final_calls
from kgdbpatch.analysis.program import Program
from kgdbpatch.guests import linux_build
from kgdbpatch.image import Image
from kgdbpatch.kernel import catalog

_GCC, _STRIP = "powerpc-linux-gnu-gcc", "powerpc-linux-gnu-strip"
NOP, BLR, LI, LOOP, TRAP, RFI, BCTR = (
    0x60000000,
    0x4E800020,
    0x38600001,
    0x48000000,
    0x7FE00008,
    0x4C000064,
    0x4E800420,
)
BASE = 0x1000


def _bl(here: int, there: int) -> int:
    return 0x48000001 | 4 * (there - here) & 0x03FFFFFC


def _b(here: int, there: int) -> int:
    return _bl(here, there) & ~1


def _final(words: list[int]) -> list[int]:
    program = Program([(BASE, np.array(words, dtype=np.uint32))], ())
    return np.flatnonzero(final_calls(program)).tolist()


@pytest.mark.parametrize("end", [BLR, RFI, BCTR, 0x00000000, TRAP, _b(0, -9), 0x4D820020])
def test_what_may_come_back(end: int) -> None:
    assert _final([_bl(0, 2), BLR, LI, end, BLR]) == []


def test_a_loop_never_does_nor_does_who_calls_it_last() -> None:
    words = [_bl(0, 3), _bl(1, 5), BLR, LI, LOOP, _bl(5, 3), LI, BLR]
    assert _final(words) == [0, 1, 5]


def test_neither_does_what_jumps_to_it() -> None:
    assert _final([_bl(0, 2), BLR, _b(2, 4), BLR, LI, LOOP]) == [0]


def test_a_way_past_the_last_call_is_seen() -> None:
    words = [_bl(0, 2), BLR, 0x41820008, _bl(3, 5), BLR, LOOP]  # beq over the call
    assert _final(words) == [3]


def test_a_conditional_call_may_be_passed_and_a_bl_that_fetches_the_pc_is_none() -> None:
    assert _final([0x41820009, BLR, LOOP]) == []  # beql to the loop
    assert _final([0x48000005, LOOP]) == []


def test_a_function_begins_behind_it() -> None:
    words = [_bl(0, 6), BLR, LI, _bl(3, 6), 0x9421FFF0, BLR, LI, LOOP]
    found = guess_functions([(BASE, np.array(words, dtype=np.uint32))])
    assert [at for at, _ in found] == [BASE, BASE + 16, BASE + 24]


def test_the_case_of_a_switch_is_no_function() -> None:
    """A table holds its address, and nothing comes there from before; it reads its function's r31."""
    words = [0x9421FFF0, LI, BCTR, 0x7FE3FB78, BLR, 0x9421FFF0, 0x93E1000C, 0x7C7F1B78, BLR]
    data = [(0x9000, np.array([BASE + 12, BASE + 20], dtype=np.uint32))]
    found = guess_functions([(BASE, np.array(words, dtype=np.uint32))], data)
    assert [at for at, _ in found] == [BASE, BASE + 20]


_PROTECTED = r"""
extern int read_into(char *, int);
extern unsigned state;
__attribute__((noreturn)) void halt(const char *why) { state = *why; for (;;) state++; }
__attribute__((noreturn)) void __stack_chk_fail(void) { halt("stack"); }
__attribute__((noreturn)) void die(int code) { if (code) halt("code"); halt("none"); }
unsigned state;
int read_into(char *at, int n) { while (n--) at[n] = state; return state; }
#define ONE(n) \
    int buffered_##n(int a) { char b[16 + n]; read_into(b, a); return b[n] + n; } \
    int checked_##n(int a) { if (a == n) die(a); return read_into((char *)&state, a) * 2; } \
    int small_##n(int a) { char b[9]; return read_into(b, a + n) ? b[3] : n; }
#define TEN(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7)
TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7)
"""


def _figures(unstripped: Path, place: Path) -> tuple[float, float]:
    """Return the share of the functions that are found without symbols, and of those found that are ones."""
    stripped = place / "stripped"
    subprocess.run([_STRIP, "-s", "-o", stripped, unstripped], check=True)
    # nor those that a Linux keeps of itself
    stripped.write_bytes(stripped.read_bytes().replace(b"Linux version ", b"Linus version "))
    known = {function.address for function in Image.load(unstripped).functions}
    found = {function.address for function in catalog.open_image(str(stripped)).functions}
    return len(known & found) / len(known), len(known & found) / len(found)


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
def test_functions_that_end_in_the_stack_protector(level: str, tmp_path: Path) -> None:
    if not shutil.which(_GCC):
        pytest.skip(f"{_GCC} is not installed")
    (tmp_path / "a.c").write_text(_PROTECTED)
    flags = [level, "-fstack-protector-strong", "-ffreestanding", "-fno-inline", "-fno-pic", "-nostdlib"]
    flags += ["-static", "-Wl,-e,halt", "-Wl,--build-id=none"]
    subprocess.run([_GCC, *flags, "-o", "kernel", "a.c"], cwd=tmp_path, check=True)
    recall, precision = _figures(tmp_path / "kernel", tmp_path)
    assert recall >= 0.99
    assert precision >= 0.98


def _source(version: str, place: Path) -> Path:
    """Return the archive of Debian's package linux-source-VERSION, which need not be installed."""
    name = f"linux-source-{version}"
    installed = Path(f"/usr/src/{name}.tar.xz")
    if installed.exists():
        return installed
    done = subprocess.run(
        ["apt-get", "download", name], cwd=place, check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{name} is neither installed nor to be had here: {done.stderr.strip()}")
    (package,) = place.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, place], check=True)
    return place / f"usr/src/{name}.tar.xz"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_a_stripped_kernel_with_stack_protectors(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled kernel has them."""
    source = _source(version, tmp_path)
    monkeypatch.setattr(linux_build, "source", lambda: source)
    kernel = linux_build.build_kernel(print)
    recall, precision = _figures(kernel, tmp_path)
    print(f"Linux {version}: recall {recall:.4f}, precision {precision:.4f}")
    assert recall >= 0.99
    assert precision >= 0.98
