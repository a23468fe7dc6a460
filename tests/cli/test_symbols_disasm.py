"""symbols and disasm of a kernel's file, and dumps: no guest runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from patch.elf import needs_binutils, put_together

from kgdbpatch.cli.dump import dump
from kgdbpatch.errors import Misuse
from kgdbpatch.image import Image
from kgdbpatch.image.named import all_symbols, names_between, symbol_at
from kgdbpatch.kernel.disassembly import disassemble_file
from kgdbpatch.kernel.typed import shape_named
from kgdbpatch.types import KernelTypes

from .conftest import Cli

pytestmark = needs_binutils

CODE = """
    .globl _start
    .globl start
    .type start, @function
_start:
start:
    cmplwi 3, 1
    bgt two
    lis 9, table@ha
    addi 9, 9, table@l
    slwi 3, 3, 2
    lwzx 9, 9, 3
    mtctr 9
    bctr
table:
    .long one, two
one:
    bl helper
    blr
two:
    li 3, 2
    blr
    .size start, . - start
    .globl helper
    .type helper, @function
helper:
    bltlr
    blr
    .size helper, . - helper
    .data
    .globl counter
    .type counter, @object
counter:
    .long 0, 5
    .size counter, 8
"""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return put_together(tmp_path, CODE)


def test_all_names_are_rows(image: Image, cli: Cli) -> None:
    rows = {row.name: row for row in all_symbols(image)}
    counter, start = image.lookup("counter"), image.lookup("start")
    assert (rows["counter"].kind, rows["counter"].size, rows["counter"].section) == ("object", 8, ".data")
    assert (rows["start"].kind, rows["start"].address) == ("function", start)
    inside = symbol_at(image, counter + 4)
    assert inside is not None
    assert (inside.name, inside.address) == ("counter", counter)
    assert names_between(image, counter, counter + 8) == {counter: "counter"}
    told = cli("symbols", image.path, f"0x{start + 4:x}", "--json").json
    assert (told["name"], told["asked"], told["offset"], told["asked_symbol"]) == (
        "start",
        start + 4,
        4,
        "start+0x4",
    )
    assert cli("symbols", image.path, "count*").out.split("\n")[1].split()[-1] == "counter"
    for words, said in (("cuonter*", "did you mean counter?"), ("0xf0000000", "is in nothing that")):
        done = cli("symbols", image.path, words)
        assert done.code == 2
        assert said in done.err


def test_code_and_the_data_among_it(image: Image, cli: Cli) -> None:
    lines = disassemble_file(image, "start")
    assert lines[2].text.startswith("lis r9,")
    data = [line.note for line in lines if line.kind == "data"]
    assert data == ["an entry of a jump table"] * 2
    call = next(line for line in lines if line.text.startswith("bl "))
    assert (call.target, call.target_symbol) == (image.lookup("helper"), "helper")
    start = image.lookup("start")
    assert [line.address for line in disassemble_file(image, "start+0x8", 2)] == [start + 8, start + 12]
    between = disassemble_file(image, f"0x{start:x}..0x{start + 8:x}")
    assert [line.address for line in between] == [start, start + 4]
    shown = cli("disasm", image.path, "start").out
    assert shown.startswith("start:\n")
    assert "<helper>" in shown
    assert "# an entry of a jump table" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start+2"], "no multiple of 4"),
        (["strat"], "did you mean start"),
        (["start", "0"], "at least one instruction"),
        (["start", "99999999"], "name a smaller range"),
        (["start..start"], "the end lies before the begin"),
        (["start..start+8", "3"], "leave N away"),
        (["0xfffffffc", "4"], "beyond the address space"),
        (["0x00000010", "4"], "is not part of"),
        (["start", "--patched"], "in running guests alone"),
    ],
)
def test_what_cannot_be_disassembled_is_one_line(image: Image, cli: Cli, words: list[str], said: str) -> None:
    done = cli("disasm", image.path, *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_dump_names_what_begins() -> None:
    data = bytes(range(0x30, 0x44))
    lines = [*dump(0x1000, data, 4, "first+0x8", {0x1004: "second"})]
    assert lines == [
        "0x00001000  30313233 34353637  38393a3b 3c3d3e3f  |0123456789:;<=>?|  first+0x8, second",
        "0x00001010  40414243                              |@ABC|",
    ]
    assert next(dump(0, b"\x00\x01", 1, "", {})).endswith("|..|")


def test_types_as_people_write_them() -> None:
    def nothing() -> KernelTypes:
        raise AssertionError("plain types need no debug information")

    for text, size, kind in (
        ("u8", 1, "unsigned"),
        ("unsigned long", 4, "unsigned"),
        ("const  volatile int", 4, "signed"),
        ("long long", 8, "signed"),
        ("char [16]", 16, "array"),
        ("u32[2][3]", 24, "array"),
        ("void *", 4, "pointer"),
        ("char **", 4, "pointer"),
        ("uint16_t", 2, "unsigned"),
    ):
        shape = shape_named(text, nothing)
        assert (shape.size, shape.kind) == (size, kind), text
    assert shape_named("u32[2][3]", nothing).text == "u32 [2][3]"
    for text in ("", "*", "u32[", "u32 [0]", "3", "u32[99999999999]"):
        with pytest.raises(Misuse):
            shape_named(text, nothing)
