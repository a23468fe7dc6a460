"""The stubs' binaries are what their sources say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kgdbpatch.cpu import kernel_call
from kgdbpatch.cpu.booke import E500, Ppc440
from kgdbpatch.cpu.booke.stub import STUB as BOOKE
from kgdbpatch.cpu.booke.stub import STUB_440
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.cpu.ppc6xx.stub import STUB as SIX
from kgdbpatch.cpu.ppc405 import Ppc405
from kgdbpatch.cpu.ppc405.family import STUB as STUB_405
from kgdbpatch.cpu.stub import Stub
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import decode

ROOT = Path(__file__).parents[2]
FAMILIES = [(SIX, Ppc6xx.line), (BOOKE, E500.line), (STUB_440, Ppc440.line), (STUB_405, Ppc405.line)]


def test_binary_is_the_assembled_source(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/stub", tmp_path], check=True)
    assert (tmp_path / "ppc6xx/stub.bin").read_bytes() == SIX.code
    assert (tmp_path / "booke/e500.bin").read_bytes() == BOOKE.code
    assert (tmp_path / "booke/ppc440.bin").read_bytes() == STUB_440.code
    assert (tmp_path / "ppc405/stub.bin").read_bytes() == STUB_405.code
    assert (tmp_path / "kernel_call.bin").read_bytes() == kernel_call.CODE


@pytest.mark.parametrize(("stub", "line"), FAMILIES)
def test_breakpoint_word_is_unique(stub: Stub, line: int) -> None:
    words = [stub.code[index : index + 4] for index in range(0, len(stub.code), 4)]
    assert words.count(b"\x60\0\0\0") == 1


@pytest.mark.parametrize(("stub", "line"), FAMILIES)
def test_it_goes_over_new_code_by_the_lines_that_the_family_says(stub: Stub, line: int) -> None:
    """Each loop (dcbf or icbi, addi, b) begins at the start of a line (rlwinm) and goes on by one."""
    code = [decode(int.from_bytes(stub.code[at : at + 4], "big"), at) for at in range(0, len(stub.code), 4)]
    loops = [n for n, one in enumerate(code) if one.mnemonic in ("dcbf", "icbi")]
    assert [code[n].mnemonic for n in loops] == ["dcbf", "icbi"]
    assert [code[n + 1].word for n in loops] == [encode.addi(7, 7, line)] * 2
    start = next(one for one in reversed(code[: loops[0]]) if one.mnemonic == "rlwinm")
    assert start.word == encode.rlwinm(11, 11, 0, 0, 32 - line.bit_length())
