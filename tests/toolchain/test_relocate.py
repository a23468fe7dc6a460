"""A linked payload that is moved is what the linker makes for the other place."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.errors import UnknownSymbol
from kgdbpatch.isa.abi import ABI, DARWIN, SYSV
from kgdbpatch.toolchain.compile import compile_c, link
from kgdbpatch.toolchain.gnu import available

pytestmark = pytest.mark.skipif(not available("gcc"), reason="no cross compiler is installed")

SOURCE = r"""
extern int near_by(const char *, ...), far_away(int);
extern int counter, missing(void) __attribute__((weak));
static unsigned table[] = {1, 2, 3};
static unsigned *volatile inside = &table[2];
static volatile long long wide;
static int small(int x) { return x * 7; }
static int (*volatile pointer)(int) = small;
const char *const names[] = {"one", "two", "three"};
__attribute__((noinline)) int choose(int n)
{
    switch (n) {
    case 0: return near_by("zero %s", names[1]);
    case 1: return far_away(n);
    case 2: return counter++;
    case 3: return pointer(n);
    case 4: return (int)(wide / 1000003);
    case 5: return *inside;
    case 6: return near_by == 0;
    case 7: return missing ? missing() : 3;
    default: return table[n & 1];
    }
}
int payload(int n) { return choose(n) + choose(n + 1); }
"""
ALIGNED = """
static char line[64] __attribute__((aligned(64)));
char *payload(void) { line[0]++; return line; }
"""
KERNEL = {"near_by": 0xC000_4000, "far_away": 0x0000_8000, "counter": 0xC070_1234}


def resolve(name: str) -> int:
    if name not in KERNEL:
        raise UnknownSymbol(name, "this kernel")
    return KERNEL[name]


def write(directory: Path, text: str) -> Path:
    path = directory / "payload.c"
    path.write_text(text)
    return path


@pytest.mark.parametrize("abi", [SYSV, DARWIN])
def test_a_moved_payload_is_as_linked_anew(tmp_path: Path, abi: ABI) -> None:
    compiled = compile_c(write(tmp_path, SOURCE))
    first = link(compiled, 0xBF0C_0000, resolve, abi=abi)
    rng = random.Random(3)
    for _ in range(12):
        address = 0xBF00_0000 + 16 * rng.randrange(1 << 19)
        moved = first.moved(address)
        anew = link(compiled, address, resolve, abi=abi)
        assert moved is not None
        assert (moved.code, moved.entry, moved.symbols) == (anew.code, anew.entry, anew.symbols)
        assert (moved.text_size, moved.constant_size) == (anew.text_size, anew.constant_size)


def test_what_gets_out_of_reach_is_not_moved(tmp_path: Path) -> None:
    first = link(compile_c(write(tmp_path, SOURCE)), 0xBF0C_0000, resolve)
    assert first.moved(0xB000_0000) is None  # near_by needs a veneer there
    assert first.moved(0x0100_0000) is None  # and far_away needs none


def test_an_alignment_is_kept(tmp_path: Path) -> None:
    compiled = compile_c(write(tmp_path, ALIGNED))
    first = link(compiled, 0xBF0C_0000, resolve)
    assert first.moved(0xBF0C_0010) is None
    moved = first.moved(0xBF0C_0040)
    assert moved is not None
    assert moved.code == link(compiled, 0xBF0C_0040, resolve).code


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that are started from here on."""
    found: list[str] = []
    start: Callable[..., object] = subprocess.Popen.__init__

    def noted(self: object, args: list[str], *rest: object, **named: object) -> None:
        found.append(Path(args[0]).name.rpartition("-")[2])
        start(self, args, *rest, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    return found


def test_one_payload_starts_two_programs(tmp_path: Path, started: list[str]) -> None:
    compiled = compile_c(write(tmp_path, "extern int counter; void payload(void) { counter++; }\n"))
    first = link(compiled, 0xBF0C_0000, resolve)
    assert first.moved(0xBF0C_0120) is not None
    assert started == ["gcc", "ld"]
