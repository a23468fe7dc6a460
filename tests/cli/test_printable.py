"""What a terminal obeys does not reach it: names of symbols and of files can hold anything."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from analysis.code import link, needs_as
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.cli.output import painted, printable

from .conftest import Cli

CODE = """
        .globl  fXXXXXXXXXXXXX
        .type   fXXXXXXXXXXXXX,@function
fXXXXXXXXXXXXX:
        mflr    0
        bl      plain
        cmpwi   3,0
        beq     1f
        mtmsr   3
1:      mtlr    0
        blr
        .size   fXXXXXXXXXXXXX,.-fXXXXXXXXXXXXX
        .globl  plain
        .type   plain,@function
plain:  blr
        .size   plain,.-plain
"""
NAME = "f\x1b[31m\x07\rev\x9b\x7fl"
SHOWN = r"f\x1b[31m\x07\rev\x9b\x7fl"
OBEYED = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n"}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("evil")
    path = link(CODE, place).path
    placeholder, name = b"fXXXXXXXXXXXXX", NAME.encode()
    raw = path.read_bytes()
    assert placeholder in raw
    evil = place / "e\x1b[2Jvil.elf"
    assert len(name) == len(placeholder)
    evil.write_bytes(raw.replace(placeholder, name))
    return evil


@needs_as
@pytest.mark.parametrize(
    "command",
    [
        ["functions", "KERNEL"],
        ["functions", "KERNEL", "f*"],
        ["analyze", "KERNEL"],
        ["live", "KERNEL", "0xc0001004"],
        ["check", "KERNEL", "0xc0001000"],
        ["check", "KERNEL", "*"],
        ["check", "KERNEL", "*", "--summary"],
        ["check", "KERNEL", NAME + "+0x1"],
        ["check", "KERNEL", "0xc0001002"],
        ["cfg", "KERNEL", "0xc0001000"],
        ["cfg", "KERNEL", "0xc0001000", "--dot"],
        ["callgraph", "KERNEL"],
        ["callgraph", "KERNEL", "--dot"],
        ["callgraph", "KERNEL", "plain"],
        ["callgraph", "KERNEL", "--from", "plain", "--to", "0xc0001000"],
        ["live", "KERNEL", "no\x1b[31msuch"],
        ["ps", "no\x1b[31msuch"],
        ["no\x1b[31msuch"],
        ["functions", "no\x1b[31msuch"],
        ["boot", "--machine", "no\x1b[31msuch"],
    ],
    ids=lambda command: " ".join(command).encode("unicode_escape").decode(),
)
def test_no_command_prints_it(cli: Cli, kernel: Path, command: list[str]) -> None:
    words = [str(kernel) if word == "KERNEL" else word for word in command]
    result = cli(*words)
    assert not OBEYED & set(result.out + result.err)
    assert result.out + result.err
    told = cli(*words, *([] if "--dot" in command else ["--json"]))
    assert not OBEYED & set(told.out + told.err)


@needs_as
def test_it_is_shown_escaped(cli: Cli, kernel: Path) -> None:
    for command in ("functions", "callgraph"):
        assert SHOWN in cli(command, kernel).out
    assert f" {SHOWN}+0x4: " in cli("live", kernel, "0xc0001004").out
    names = [json.loads(line)["name"] for line in cli("functions", kernel, "--json").out.splitlines()]
    assert names[0] == NAME


def test_what_is_printable_stays_as_it_is() -> None:
    for text in ("naïve_名前", "a\\x1b", "tab\tand\nline"):
        assert printable(text, "\t\n") == text
    assert printable("\u202egnp.exe\u2028") == r"\u202egnp.exe\u2028"
    assert painted("a\x1b[1mb", None) == r"a\x1b[1mb"
    assert printable("caf\udce9 \udc9b2J") == "caf\udce9 \\x9b2J"


@given(st.text())
def test_whatever_the_text(text: str) -> None:
    shown = printable(text)
    assert not OBEYED & set(shown)
    assert "\n" not in shown
    assert printable(shown) == shown


def test_a_warning_is_printable(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    cli("--version")  # which sets where warnings go
    logging.getLogger("kgdbpatch.test").warning("the symbol %s", NAME)
    assert capfd.readouterr().err == f"kgdbpatch: the symbol {SHOWN}\n"
