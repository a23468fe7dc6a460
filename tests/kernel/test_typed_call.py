"""Arguments of calls are checked and laid out by prototypes, which GCC's debug information tells."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import pytest

from kgdbpatch.errors import Misuse, Refused, UnknownSymbol
from kgdbpatch.image import Image
from kgdbpatch.isa.abi import ABI, DARWIN, SYSV
from kgdbpatch.kernel.typed_call import passed
from kgdbpatch.types import KernelTypes

GCC = "powerpc-linux-gnu-gcc"
pytestmark = pytest.mark.skipif(shutil.which(GCC) is None, reason=f"{GCC} is not installed")
SOURCE = """
typedef unsigned long size_t;
enum colour { RED, GREEN = 5, BLUE };
struct thing { int a; };
int small(unsigned char c, short s, _Bool b) { return c + s + b; }
long long wide(int a, long long b, unsigned long long c) { return a + b + c; }
int text(const char *s, void *p, struct thing *t, size_t n) { return *s; }
int paint(enum colour c) { return c; }
double floating(void) { return 1; }
int takes_float(float f) { return f; }
struct thing made(void) { struct thing t = { 1 }; return t; }
int by_value(struct thing t) { return t.a; }
int many(const char *format, ...) { return *format; }
void (*handler(void (*f)(int)))(int) { return f; }
"""
NAMES = {"jiffies": 0xC0001000}


class OfAbi(Image):
    """Nothing of an image but how its functions are called."""

    def __init__(self, abi: ABI) -> None:
        self.__dict__["format"] = "mach-o" if abi is DARWIN else "elf"


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> KernelTypes:
    source = tmp_path_factory.mktemp("types") / "made.c"
    source.write_text(SOURCE)
    made = source.with_suffix(".o")
    subprocess.run([GCC, "-g", "-c", "-o", made, source], check=True)
    return KernelTypes(made)


def resolve(name: str) -> int:
    if name not in NAMES:
        raise UnknownSymbol(name, "the kernel")
    return NAMES[name]


def words(
    types: KernelTypes, name: str, given: Sequence[str | int | bytes], abi: ABI = SYSV
) -> list[int | bytes]:
    return passed(types.signature(name), given, OfAbi(abi), resolve)


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("small", ["255", "-1", "true"], [255, 0xFFFF_FFFF, 1]),
        ("small", ["-1", "0xffff", "0"], [255, 0xFFFF_FFFF, 0]),
        ("text", ['"a"', "NULL", "jiffies", "12"], [b"a", 0, 0xC0001000, 12]),
        ("text", ["0xc0000000", '"room"', 0, "jiffies"], [0xC0000000, b"room", 0, 0xC0001000]),
        ("paint", ["GREEN"], [5]),
        ("paint", ["6"], [6]),
        ("many", ['"%d"', "1", "jiffies"], [b"%d", 1, 0xC0001000]),
        ("handler", ["jiffies"], [0xC0001000]),
        ("wide", ["1", "-2", "0x100000003"], [1, 0, 0xFFFF_FFFF, 0xFFFF_FFFE, 1, 3]),
    ],
)
def test_arguments(
    types: KernelTypes, name: str, given: list[str | int | bytes], wanted: list[int | bytes]
) -> None:
    assert words(types, name, given) == wanted


def test_darwin_passes_64_bits_in_any_two_words(types: KernelTypes) -> None:
    given = ["1", "-2", "0x100000003"]
    assert words(types, "wide", given, DARWIN) == [1, 0xFFFF_FFFF, 0xFFFF_FFFE, 1, 3]


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("paint", [], r"paint takes 1 argument, 0 given: int paint\(enum colour c\);"),
        ("small", ["1", "2", "0", "4"], "small takes 3 arguments, 4 given"),
        ("many", [], "many takes at least 1 argument, 0 given"),
        ("small", ["256", "0", "0"], r"parameter 1 \(c\) of small, 'unsigned char': 256 does not fit"),
        ("small", ["1", "0", "2"], "parameter 3 .*: 2 does not fit"),
        ("text", ["0", "0", '"x"', "0"], r"parameter 3 \(t\) of text, 'struct thing \*': a text is none"),
        ("text", ["0", "0", "0", '"x"'], r"parameter 4 \(n\) of text, 'size_t': a text is none"),
        ("paint", ["GREE"], "has no constant 'GREE'; there are: GREEN"),
        ("paint", ["none"], "has no constant 'none'; there are: RED, GREEN, BLUE"),
        ("small", ["nobody", "0", "0"], "no symbol 'nobody'"),
        ("by_value", ["0"], "no structure is passed"),
        ("made", [], "--untyped"),
    ],
)
def test_what_is_no_argument(
    types: KernelTypes, name: str, given: list[str | int | bytes], told: str
) -> None:
    with pytest.raises(Misuse, match=told):
        words(types, name, given)


@pytest.mark.parametrize("name", ["floating", "takes_float"])
def test_floating_point_is_refused(types: KernelTypes, name: str) -> None:
    with pytest.raises(Refused, match="floating point is off in kernel code") as refused:
        words(types, name, ["1"] if name == "takes_float" else [])
    assert refused.value.rule == "floating point"
