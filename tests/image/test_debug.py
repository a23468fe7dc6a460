"""Which file holds a kernel's debug information; another kernel's is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage, WrongKernel
from kgdbpatch.image import Image
from kgdbpatch.image.debug import debug_file

TOOLS = "powerpc-linux-gnu-"
pytestmark = pytest.mark.skipif(shutil.which(f"{TOOLS}gcc") is None, reason=f"{TOOLS}gcc is not installed")
SOURCE = "int grown; int first(void) { return 1; } int second(int a) { return a * 3 + grown; }"
MORE = SOURCE.replace("return 1;", "return grown++ * grown / 5;")


def tool(name: str, *arguments: object) -> None:
    subprocess.run([TOOLS + name, *map(str, arguments)], check=True)


def build(path: Path, source: str = SOURCE, *flags: str) -> Path:
    text = path.with_suffix(".c")
    text.write_text(source)
    common = ["-O1", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-Wl,-e,first,--build-id=none"]
    tool("gcc", *common, *flags, text, "-o", path)
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return build(tmp_path / "whole", SOURCE, "-g")


@pytest.fixture
def bare(tmp_path: Path, whole: Path) -> Path:
    tool("objcopy", "--strip-debug", whole, tmp_path / "bare")
    return tmp_path / "bare"


def test_the_image_itself(whole: Path) -> None:
    assert debug_file(Image.load(whole)) == whole


@pytest.mark.parametrize("ending", ["elf", "debug"])
@pytest.mark.parametrize("compress", ["none", "zlib"])
def test_a_file_beside_it(whole: Path, bare: Path, ending: str, compress: str) -> None:
    beside = bare.with_name(f"bare.{ending}")
    kind = ["--only-keep-debug"] if ending == "debug" else []
    tool("objcopy", *kind, f"--compress-debug-sections={compress}", whole, beside)
    assert debug_file(Image.load(bare)) == beside
    assert debug_file(Image.load(bare), whole) == whole


def test_a_stripped_kernel(whole: Path, tmp_path: Path) -> None:
    """Nothing but its code tells which kernel it is."""
    tool("strip", whole, "-o", tmp_path / "stripped")
    stripped = Image.load(tmp_path / "stripped")
    assert debug_file(stripped, whole) == whole
    with pytest.raises(WrongKernel, match="other is not of the kernel"):
        debug_file(stripped, build(tmp_path / "other", MORE, "-g"))


def test_none(bare: Path, whole: Path) -> None:
    with pytest.raises(BadImage, match=r"bare: no debug information \(DWARF\) in it or beside it"):
        debug_file(Image.load(bare))
    for text in (b"", b"no ELF file", whole.read_bytes()[:60]):
        given = bare.with_name("given")
        given.write_bytes(text)
        with pytest.raises(BadImage, match=r"given: no debug information \(DWARF\) in it$"):
            debug_file(Image.load(bare), given)
    with pytest.raises(BadImage, match="no such file"):
        debug_file(Image.load(bare), bare.with_name("missing"))


def test_another_kernel(bare: Path, tmp_path: Path) -> None:
    other = build(tmp_path / "bare.elf", MORE, "-g")
    for given in (None, other):
        with pytest.raises(WrongKernel, match=r"bare\.elf is not of the kernel .*bare"):
            debug_file(Image.load(bare), given)
