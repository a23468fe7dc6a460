"""The stub's binary is what its source says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kgdbpatch.cpu.ppc6xx import Ppc6xx, kernel_call, stub
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import decode

ROOT = Path(__file__).parents[2]


def test_binary_is_the_assembled_source(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/stub", tmp_path], check=True)
    assert (tmp_path / "stub.bin").read_bytes() == stub.CODE
    assert (tmp_path / "kernel_call.bin").read_bytes() == kernel_call.CODE


def test_breakpoint_word_is_unique() -> None:
    words = [stub.CODE[index : index + 4] for index in range(0, len(stub.CODE), 4)]
    assert words.count(b"\x60\0\0\0") == 1


def test_it_goes_over_new_code_by_the_lines_that_the_family_says() -> None:
    """Each loop (dcbf or icbi, addi, b) begins at the start of a line (rlwinm) and goes on by one."""
    code = [decode(int.from_bytes(stub.CODE[at : at + 4], "big"), at) for at in range(0, len(stub.CODE), 4)]
    loops = [n for n, one in enumerate(code) if one.mnemonic in ("dcbf", "icbi")]
    assert [code[n].mnemonic for n in loops] == ["dcbf", "icbi"]
    assert [code[n + 1].word for n in loops] == [encode.addi(7, 7, Ppc6xx.line)] * 2
    start = next(one for one in reversed(code[: loops[0]]) if one.mnemonic == "rlwinm")
    assert start.word == encode.rlwinm(11, 11, 0, 0, 32 - Ppc6xx.line.bit_length())
