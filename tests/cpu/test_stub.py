"""The stub's binary is what its source says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kgdbpatch.cpu.ppc6xx import kernel_call, stub

ROOT = Path(__file__).parents[2]


def test_binary_is_the_assembled_source(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/stub", tmp_path], check=True)
    assert (tmp_path / "stub.bin").read_bytes() == stub.CODE
    assert (tmp_path / "kernel_call.bin").read_bytes() == kernel_call.CODE


def test_breakpoint_word_is_unique() -> None:
    words = [stub.CODE[index : index + 4] for index in range(0, len(stub.CODE), 4)]
    assert words.count(b"\x60\0\0\0") == 1
