from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image

from .conftest import macho


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGDBPATCH_CACHE", "/dev/null/nowhere")


Capture = pytest.CaptureFixture[str]


def refusal(path: Path) -> str:
    with pytest.raises(BadImage) as error:
        Image.load(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert error.value.exit_code == 5
    return text


def exercise(image: Image) -> None:
    """Touch everything that is built on first use."""
    for function in image.functions[:50]:
        assert image.function_at(function.address) is not None
        image.symbolize(function.address + 4)
    for section in image.code_sections():
        image.words(section)
    for symbol in image.symbols[:50]:
        image.symbolize(symbol.address)


def load(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        image = Image.load(path)
    except BadImage as error:
        lines = str(error).splitlines()
    else:
        exercise(image)
        return
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x7f", "neither Mach-O nor ELF"),
        (b"\xfe\xed", "neither Mach-O nor ELF"),
        (b"#!/bin/sh\n", "neither Mach-O nor ELF"),
        (b"\x7fELF", "truncated in the ELF header"),
        (b"\xfe\xed\xfa\xce", "truncated in the Mach-O header"),
        (b"\xca\xfe\xba\xbe", "truncated in the universal header"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(64), "neither Mach-O nor ELF"),
        (b"\xca\xfe\xba\xbe\0\0\0\x02" + bytes(8), "truncated in the universal header"),
    ],
)
def test_other_bytes(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    assert reason in refusal(path)


def test_no_such_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing")


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_this_computers_own_program() -> None:
    assert "not 32-bit PowerPC" in refusal(Path("/bin/sh").resolve())


def _macho_header(order: str, magic: int, cpu: int, filetype: int) -> bytes:
    return struct.pack(order + "7I", magic, cpu, 0, filetype, 0, 0, 0) + bytes(64)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_macho_header("<", 0xFEEDFACE, 18, 2), "little-endian"),
        (_macho_header("<", 0xFEEDFACE, 7, 2), "i386, not 32-bit PowerPC"),
        (_macho_header("<", 0xFEEDFACF, 0x01000007, 2), "x86-64, not 32-bit PowerPC"),
        (_macho_header(">", 0xFEEDFACF, 0x01000012, 2), "64-bit PowerPC, not 32-bit PowerPC"),
        (_macho_header(">", 0xFEEDFACE, 18, 1), "the Mach-O object file has no sections"),
        (_macho_header(">", 0xFEEDFACE, 18, 6), "is a shared library, not an executable"),
        (_macho_header(">", 0xFEEDFACE, 18, 2), "no segments"),
    ],
)
def test_other_macho_files(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ({5: 1}, "not 32-bit PowerPC"),  # byte order: then the machine reads 0x1400
        ({5: 1, 18: 20, 19: 0}, "little-endian"),
        ({4: 2}, "64-bit"),
        ({19: 21}, "64-bit PowerPC, not 32-bit PowerPC"),
        ({18: 62, 19: 0, 5: 1}, "x86-64, not 32-bit PowerPC"),
        ({17: 1}, "is an object file, not an executable"),
        ({17: 4}, "is a core file, not an executable"),
        ({4: 9}, "no known class"),
        ({44: 0, 45: 0}, "no segments to load"),
        ({43: 31}, "impossible table sizes"),
    ],
)
def test_elf_headers(elf_path: Path, tmp_path: Path, patch: dict[int, int], reason: str) -> None:
    data = bytearray(elf_path.read_bytes())
    for offset, value in patch.items():
        data[offset] = value
    path = tmp_path / "kernel"
    path.write_bytes(data)
    assert reason in refusal(path)


def test_an_object_file_of_the_cross_compiler(tmp_path: Path) -> None:
    if not shutil.which("powerpc-linux-gnu-as"):
        pytest.skip("powerpc-linux-gnu-as is not installed")
    subprocess.run(["powerpc-linux-gnu-as", "-o", tmp_path / "a.o"], input=b".text\nnop\n", check=True)
    assert "is an object file, not an executable" in refusal(tmp_path / "a.o")


def test_a_shared_library_is_no_kernel(tmp_path: Path) -> None:
    if not shutil.which("powerpc-linux-gnu-gcc"):
        pytest.skip("powerpc-linux-gnu-gcc is not installed")
    (tmp_path / "a.c").write_text("int f(void) { return 1; }")
    command = ["powerpc-linux-gnu-gcc", "-shared", "-fpic", "-nostdlib", "-Wl,-Ttext-segment=0"]
    subprocess.run([*command, "-o", "lib.so", "a.c"], cwd=tmp_path, check=True)
    refusal(tmp_path / "lib.so")


@pytest.mark.parametrize("kind", ["macho", "elf"])
def test_truncated_anywhere(kind: str, elf_path: Path, tmp_path: Path) -> None:
    data = macho().build() if kind == "macho" else elf_path.read_bytes()
    path = tmp_path / "kernel"
    step = max(1, len(data) // 400)
    for size in [*range(1, 512), *range(512, len(data) - 64, step), *range(len(data) - 64, len(data))]:
        path.write_bytes(data[:size])
        refusal(path)


@pytest.mark.parametrize("kind", ["macho", "elf"])
def test_nothing_is_printed(kind: str, elf_path: Path, tmp_path: Path, capfd: Capture) -> None:
    data = macho().build() if kind == "macho" else elf_path.read_bytes()
    (tmp_path / "k").write_bytes(data[: len(data) // 2])
    refusal(tmp_path / "k")
    assert capfd.readouterr() == ("", "")


fuzz = settings(
    max_examples=300,
    deadline=2000,
    suppress_health_check=list(HealthCheck),
)
edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6
)


def _edited(data: bytes, edits: list[tuple[float, bytes]], within: int) -> bytes:
    out = bytearray(data)
    for where, what in edits:
        at = int(where * min(within, len(out)))
        out[at : at + len(what)] = what
    return bytes(out[: len(data)])


@fuzz
@given(edits=edits, headers=st.booleans())
def test_damaged_macho(tmp_path: Path, edits: list[tuple[float, bytes]], headers: bool) -> None:
    data = macho().build()
    load(tmp_path / "kernel", _edited(data, edits, 900 if headers else len(data)))


@fuzz
@given(edits=edits, at_end=st.booleans())
def test_damaged_elf(elf_path: Path, tmp_path: Path, edits: list[tuple[float, bytes]], at_end: bool) -> None:
    data = elf_path.read_bytes()
    if at_end:  # symbols, strings and section headers
        keep = len(data) - 1600
        data = data[:keep] + _edited(data[keep:], edits, 1600)
    else:
        data = _edited(data, edits, 200)
    load(tmp_path / "kernel", data)


MAGICS = [
    b"\x7fELF\x01\x02\x01",
    b"\xfe\xed\xfa\xce\0\0\0\x12",
    b"\xca\xfe\xba\xbe\0\0\0\x01",
    b"",
]


@fuzz
@given(
    data=st.binary(max_size=200),
    magic=st.sampled_from(MAGICS),
)
def test_random_bytes(tmp_path: Path, data: bytes, magic: bytes) -> None:
    load(tmp_path / "kernel", magic + data)
