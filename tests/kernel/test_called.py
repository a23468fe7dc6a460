"""How the arguments of a call are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from patch.elf import needs_binutils, put_together

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image import Image
from kgdbpatch.kernel.called import argument, check_count

pytestmark = needs_binutils

SOURCE = """
    .text
    .globl _start
    .type _start, @function
_start:
    blr
    nop
    .size _start, . - _start
    .data
    .globl table
    .type table, @object
table:
    .long 1, 2
    .size table, . - table
"""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return put_together(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0", 0),
        ("010", 10),
        ("+7", 7),
        ("-1", -1),
        ("0xFFFFffff", 0xFFFF_FFFF),
        ("-0x80000000", -0x8000_0000),
        ('""', b""),
        ('"two words"', b"two words"),
        (r'"\a\b\f\n\r\t\v\\\"\'"', b"\a\b\f\n\r\t\v\\\"'"),
        (r'"\x41\102\0"', b"AB\0"),
        (r'"\\n"', b"\\n"),
        ('"ä\udcff"', b"\xc3\xa4\xff"),
    ],
)
def test_numbers_and_strings(image: Image, word: str, value: int | bytes) -> None:
    assert argument(word, image) == value


def test_names_stand_for_addresses(image: Image) -> None:
    assert argument("_start", image) == image.lookup("_start")
    assert argument("_start+0x4", image) == image.lookup("_start") + 4
    assert argument("table", image) == image.lookup("table")
    assert argument("table+4", image) == image.lookup("table") + 4
    with pytest.raises(UnknownSymbol):
        argument("tabel", image)


@pytest.mark.parametrize(
    "word",
    [
        *("", "-", "--", "0x", "1.5", "1e3", "-x", "a b", "4294967296", "-2147483649", "0x100000000"),
        *('"', '"a', '"a"b', '"a"b"', '"\\"', r'"\q"', r'"\x"', r'"\400"', "9" * 4999, "'a'"),
    ],
)
def test_what_is_no_argument(image: Image, word: str) -> None:
    with pytest.raises(Misuse) as told:
        argument(word, image)
    assert "\n" not in str(told.value)


def test_how_many_there_may_be() -> None:
    check_count([0] * 8)
    check_count([b""] * 8)
    with pytest.raises(Misuse, match="at most 8 words"):
        check_count([0] * 9)
