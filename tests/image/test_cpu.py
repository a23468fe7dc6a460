"""The CPU that a file names decides whose names its words get."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.cli.main import run
from kgdbpatch.image import Image
from kgdbpatch.image.cpu import model_of

OBJDUMP = "powerpc-linux-gnu-objdump"
_TOOLS = ("powerpc-linux-gnu-as", "powerpc-linux-gnu-ld", "powerpc-linux-gnu-strip", OBJDUMP)
pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in _TOOLS), reason="GNU binutils for PowerPC are not installed"
)

_HANDLER = """
    wrteei 1
    evldd r20,16(r1)
    evstdd r21,24(r1)
    evmergehi r3,r4,r5
    evaddw r6,r7,r8
    efsadd r9,r10,r11
    efscfui r12,r13
    mtspr 62,r3
    tlbre
    tlbwe
    msync
    mbar
    lwz r3,8(r1)
    rfci
    .long 0x12345678
"""
# the same words as some of SPE
_VECTOR = '.machine "7400"\n vaddubs v1,v2,v3\n vmhaddshs v4,v5,v6,v7\n lvx v3,0,r4\n dssall\n blr\n'


def _link(folder: Path, machine: str, source: str) -> Path:
    (folder / "k.s").write_text(
        f".globl _start\n.type _start,@function\n_start:\n{source}\n.size _start,.-_start\n"
    )
    subprocess.run(
        ["powerpc-linux-gnu-as", f"-m{machine}", "-mregnames", "-a32", "-o", "k.o", "k.s"],
        check=True,
        cwd=folder,
    )
    subprocess.run(["powerpc-linux-gnu-ld", "-melf32ppc", "-o", "k", "k.o"], check=True, cwd=folder)
    return folder / "k"


def _listing(kernel: Path) -> list[str]:
    shown = subprocess.run(
        [OBJDUMP, "-d", "-z", "--no-show-raw-insn", kernel], capture_output=True, check=True, text=True
    )
    return [" ".join(line.split("\t", 1)[1].split()) for line in shown.stdout.splitlines() if ":\t" in line]


def _shown(kernel: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(["cfg", str(kernel), "_start", "--json"]) == 0
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    return [one["text"] for node in nodes for one in node["instructions"]]


def test_an_e500_kernel_is_written_as_objdump_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = _link(tmp_path, "e500", _HANDLER)
    assert Image.load(kernel).model == "e500"
    assert _shown(kernel, capsys) == _listing(kernel)


def test_the_note_is_found_without_symbols_too(tmp_path: Path) -> None:
    kernel = _link(tmp_path, "e500", _HANDLER)
    subprocess.run(["powerpc-linux-gnu-strip", "-s", kernel], check=True)
    assert Image.load(kernel).model == "e500"


def test_a_file_that_names_no_cpu_gets_no_doubtful_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = _link(tmp_path, "ppc", _VECTOR)
    assert Image.load(kernel).model == ""
    shown, listed = _shown(kernel, capsys), _listing(kernel)
    for ours, theirs in zip(shown, listed, strict=True):
        assert ours == theirs or ours.startswith(".long 0x")
    assert "dssall" in shown
    assert "evaddw" not in " ".join(shown)


def test_mach_o_names_its_cpu_in_the_header() -> None:
    headers = {subtype: struct.pack(">3I", 0xFEEDFACE, 18, subtype) for subtype in (0, 9, 10, 11)}
    assert {n: model_of("mach-o", header) for n, header in headers.items()} == {
        0: "",
        9: "",
        10: "7450",
        11: "7450",
    }


def test_bytes_that_look_like_the_note_do_no_harm() -> None:
    note = struct.pack(">3I", 8, 4, 2) + b"APUinfo\0"
    for data in (note, note[4:], note[:-1], note + b"\0\1", b"\x7fELF" + note * 2):
        assert model_of("elf", data) == ""
    assert model_of("elf", b"...." + note + struct.pack(">I", 0x01000001)) == "e500"
