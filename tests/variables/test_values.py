"""Values of variables: bytes, Python's values, what people write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.errors import Misuse
from kgdbpatch.variables.shape import Field, Shape, from_rows, rows_of
from kgdbpatch.variables.values import Value, from_bits, from_bytes, parse, show, to_bits, to_bytes

INT, CHAR = Shape("int", 4, "signed"), Shape("char", 1, "char")
U8, U16, U64 = (Shape(f"u{8 * size}", size, "unsigned") for size in (1, 2, 8))
BOOL = Shape("_Bool", 1, "bool")
MODE = Shape("enum mode", 4, "enum", values=(("OFF", 0), ("ON", 3)))
NAME = Shape("char [8]", 8, "array", CHAR, 8)
ROW = Shape("u16 [3]", 6, "array", U16, 3)
POINTER = Shape("void *", 4, "pointer")
STATS = Shape(
    "struct stats",
    24,
    "struct",
    fields=(
        Field("row", 0, 0, ROW),
        Field("low", 48, 3, U8),
        Field("high", 51, 5, INT),
        Field("name", 64, 0, NAME),
        Field("mode", 128, 0, MODE),
        Field("next", 160, 0, POINTER),
    ),
)


def address(name: str) -> int:
    return {"printf": 0x1234}[name]


@pytest.mark.parametrize(
    ("shape", "value", "data"),
    [
        (INT, -2, b"\xff\xff\xff\xfe"),
        (U8, 255, b"\xff"),
        (U64, 1 << 63, b"\x80" + bytes(7)),
        (BOOL, True, b"\1"),
        (MODE, 3, b"\0\0\0\3"),
        (NAME, "eth0", b"eth0\0\0\0\0"),
        (NAME, "12345678", b"12345678"),
        (ROW, [1, 2, 3], b"\0\1\0\2\0\3"),
        (
            STATS,
            {"row": [1, 2, 3], "low": 5, "high": -1, "name": "x", "mode": 3, "next": 16},
            b"\0\1\0\2\0\3\xbf\0x\0\0\0\0\0\0\0\0\0\0\3\0\0\0\x10",
        ),
    ],
)
def test_there_and_back(shape: Shape, value: Value, data: bytes) -> None:
    assert to_bytes(shape, value, bytes(shape.size)) == data
    assert from_bytes(shape, data) == value
    rows, numbers = rows_of([shape, INT])
    assert [from_rows(rows)[number] for number in numbers] == [shape, INT]


def test_members_that_are_not_named_stay() -> None:
    before = bytes(range(24))
    after = to_bytes(STATS, {"high": 1, "mode": "ON"}, before)
    assert (after[:6], after[8:16], after[20:]) == (before[:6], before[8:16], before[20:])
    assert from_bytes(STATS, after) == {**from_bytes(STATS, before), "high": 1, "mode": 3}  # type: ignore[dict-item]


@given(
    st.integers(0, 7), st.integers(1, 32), st.integers(0, (1 << 32) - 1), st.binary(min_size=5, max_size=5)
)
def test_bits_change_no_others(bit: int, bits: int, value: int, data: bytes) -> None:
    value &= (1 << bits) - 1
    shape = Shape("unsigned", 4, "unsigned")
    after = to_bits(shape, value, data, bit, bits)
    assert from_bits(shape, after, bit, bits) == value
    mask = ((1 << bits) - 1) << (8 * len(after) - bit - bits)
    was, now = int.from_bytes(data[: len(after)], "big"), int.from_bytes(after, "big")
    assert was & ~mask == now & ~mask


@pytest.mark.parametrize(
    ("shape", "value", "said"),
    [
        (U8, 256, "256 is out of range: u8 holds 0 to 255"),
        (INT, 1 << 31, "holds -2147483648 to 2147483647"),
        (BOOL, 2, "holds 0 to 1"),
        (MODE, "WRONG", "enum mode has no 'WRONG': OFF, ON"),
        (NAME, "123456789", "9 bytes do not fit into char [8], which has 8"),
        (ROW, [1], "1 elements for u16 [3], which has 3"),
        (ROW, 5, "5 is no value of u16 [3]"),
        (INT, "five", "'five' is no value of int"),
        (STATS, {"nope": 1}, "struct stats has no member 'nope': row, low"),
        (STATS, {"low": 8}, "8 is out of range: 3 bits of u8 holds 0 to 7"),
    ],
)
def test_what_a_type_does_not_hold(shape: Shape, value: Value, said: str) -> None:
    with pytest.raises(Misuse) as error:
        to_bytes(shape, value, bytes(shape.size))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("word", "shape", "value"),
    [
        ("42", INT, 42),
        ("-0x10", INT, -16),
        ("007", INT, 7),
        ("0b101", INT, 5),
        ("true", BOOL, True),
        ("ON", MODE, "ON"),
        ("3", MODE, 3),
        ("eth0", NAME, b"eth0"),
        ('"a\\n\\x41"', NAME, b"a\nA"),
        ("'x'", CHAR, b"x"),
        ("printf", POINTER, 0x1234),
        ("[1, 2, 3]", ROW, [1, 2, 3]),
        ('{"mode": 0}', STATS, {"mode": 0}),
    ],
)
def test_what_people_write(word: str, shape: Shape, value: Value) -> None:
    assert parse(word, shape, address) == value


@pytest.mark.parametrize("word", ["{1}", "[", "x y", "9" * 50, ""])
def test_what_is_no_value(word: str) -> None:
    with pytest.raises(Misuse):
        parse(word, U64, address)


def test_it_is_shown_as_c_has_it() -> None:
    data = to_bytes(STATS, {"row": [1, 2, 3], "high": -1, "name": 'a"b', "mode": 3, "next": 16}, bytes(24))
    shown = show(STATS, from_bytes(STATS, data), hex)
    assert shown == (
        '{.row = {1, 2, 3}, .low = 0, .high = -1, .name = "a\\"b", .mode = ON (3), .next = 0x00000010}'
    )
    assert show(POINTER, 0, hex) == "0"
    assert show(BOOL, True, hex) == "true"
