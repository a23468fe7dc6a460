"""Code outside all segments is nobody's: it is refused by name, and the rest of the file is answered for."""

from __future__ import annotations

from pathlib import Path

import pytest
from analysis.code import link, needs_as

from kgdbpatch.image import Image

from .conftest import Cli

pytestmark = needs_as

CODE = """
        .type   f,@function
f:      li      3,1
        blr
        .size   f,.-f
        .type   caller,@function
caller: mflr    0
        bl      f
        bl      g
        mtlr    0
        blr
        .size   caller,.-caller
        .section .extra,"ax",@progbits
        .type   g,@function
g:      li      3,2
        b       caller
        .size   g,.-g
"""
SCRIPT = """
PHDRS { text PT_LOAD FLAGS(5); }
SECTIONS {
    . = 0xc0000000;
    .text : { *(.text) } :text
    . = 0xc0100000;
    .extra : { *(.extra) } :NONE
}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("outside")
    script = place / "script"
    script.write_text(SCRIPT)
    return link(CODE, place, "-T", script).path


def shortened(kernel: Path) -> Path:
    """The file whose one segment ends within ``caller``."""
    raw = bytearray(kernel.read_bytes())
    at = int.from_bytes(raw[28:32], "big")  # of the program header; its p_filesz and p_memsz
    raw[at + 16 : at + 24] = (16).to_bytes(4, "big") * 2
    short = kernel.with_name("short.elf")
    short.write_bytes(raw)
    return short


@pytest.mark.parametrize("command", ["live", "check"])
def test_what_is_loaded_is_answered_for(cli: Cli, kernel: Path, command: str) -> None:
    assert cli(command, kernel, "f").code == 0
    left_out = cli(command, kernel, "g")
    assert left_out.code == 3
    assert "0xc0100000 (g) is not in a function: section .extra, which is not loaded" in (
        left_out.out + left_out.err
    )


def test_globs_leave_the_rest_out(cli: Cli, kernel: Path) -> None:
    found = cli("check", kernel, "*", "--json").json_lines
    assert [(one["symbol"], one["ok"]) for one in found] == [("f", True), ("caller", True)]
    summary = cli("check", kernel, "*", "--summary", "--json").json
    assert (summary["functions"], summary["sites"], list(summary["sections"])) == (2, 7, [".text"])
    assert [f["name"] for f in cli("functions", kernel, "--json").json_lines] == ["f", "caller"]
    for command in ("analyze", "callgraph"):
        assert cli(command, kernel).code == 0


def test_a_section_that_is_longer_than_its_segment(cli: Cli, kernel: Path) -> None:
    short = shortened(kernel)
    assert [(f.name, f.size) for f in Image.load(short).functions] == [("f", 8), ("caller", 8)]
    assert cli("check", short, "caller").code == 0
    assert cli("check", short, "0xc0000010").code == 3
    assert cli("live", short, "caller+4").code == 0
