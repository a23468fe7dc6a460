"""Places as people, nm and oops lines spell them; nm is the judge of what it prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kgdbpatch.cli.app import application
from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image import Image
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.model import Section, Segment, Symbol
from kgdbpatch.image.spelling import is_glob

from .conftest import macho

_AT = 0xC0001000
_NAMES = ("run.isra.0", "add", "fee", "deadbeef", "00018600", "plain", "twice", "a+b")


def _image(kind: str, symbols: list[Symbol]) -> Image:
    code = Section(".text", _AT, 0x200, bytes(0x200), True, False)
    module = Section("filter,__text", 0xD0000000, 0x40, bytes(0x40), True, False)
    segments = tuple(Segment(s.name, s.address, s.size, s.data) for s in (code, module))
    return Image(Path("kernel"), kind, "", Contents(_AT, (code, module), segments, tuple(symbols)))


@pytest.fixture
def image() -> Image:
    symbols = [Symbol(name, _AT + 0x20 * n, 0x20, ".text", "function", True) for n, name in enumerate(_NAMES)]
    symbols += [Symbol("plain", 0xD0000020, 0x10, "filter,__text", "function")]
    symbols += [Symbol("only_there", 0xD0000000, 0x10, "filter,__text", "function")]
    return _image(
        "elf", [Symbol(s.name, s.address, s.size, s.section, s.kind, True) for s in symbols[:8]] + symbols[8:]
    )


@pytest.mark.parametrize(
    ("site", "address"),
    [
        ("plain+0x18/0x8f0", _AT + 0xA0 + 0x18),
        ("plain+0x18/0x20 (unreliable)", _AT + 0xA0 + 0x18),
        ("run.isra.0+0x4", _AT + 4),
        ("run.isra.0+0x4/0x1c", _AT + 4),
        ("plain+010", _AT + 0xA0 + 0x10),
        ("plain+10", _AT + 0xA0 + 10),
        ("c0001000", 0xC0001000),
        ("C0001004", 0xC0001004),
        ("00018604", 0x18604),
        ("0c00", 0xC00),
        ("0", 0),
        ("10000000", 0x10000000),
        ("4096", 4096),
        ("00000000c0001008", 0xC0001008),
        ("0xc0001000", 0xC0001000),
        ("[<c0001000>]", 0xC0001000),
        ("[c0001000]", 0xC0001000),
        ("[<c00010a4>] plain+0x4/0x20", 0xC00010A4),
        ("[c7b1fe80] [c00010a4] plain+0x4/0x20 (unreliable)", 0xC00010A4),
        ("c00010a4 <plain+0x4>:", 0xC00010A4),
        ("0xc00010a4 <plain+4>", 0xC00010A4),
        ("<plain+4>", 0xC00010A4),
        ("c0001000+0x8", 0xC0001008),
        ("add", _AT + 0x20),
        ("fee+4", _AT + 0x44),
        ("deadbeef", _AT + 0x60),
        ("deadbee0", 0xDEADBEE0),
        ("00018600", _AT + 0x80),
        ("a+b", _AT + 0xE0),
        ("plain+0x4/0x10 [filter]", 0xD0000024),
        ("only_there+0x4/0x10 [filter 0a1b2c]", 0xD0000004),
        ("only_there", 0xD0000000),
    ],
)
def test_places(image: Image, site: str, address: int) -> None:
    assert image.resolve(site) == address
    assert image.resolve(f"  {site} ") == address
    assert not is_glob(site)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("plain+0x900/0x8f0", "beyond the 0x8f0 bytes"),
        ("plain+0x4/0x10 [bridge]", "module 'bridge', which is not part of kernel"),
        ("run.isra.0 [filter]", "no symbol 'run.isra.0'"),
        ("[<c0001000>] plain+0x4/0x20", "two places: 0xc0001000 and, by its name, 0xc00010a4"),
        ("dead", "no symbol 'dead'"),
        ("plane", r"no symbol 'plane' in kernel; did you mean plain\?"),
        ("c00010000", "no symbol 'c00010000'"),
        ("plain+0x18/", "no site"),
        ("plain+zz", r"no site.*did you mean plain\?"),
        ("0x1c0001000", "beyond the 32-bit"),
        ("000000ffc0001000", "beyond the 32-bit"),
        ("[<>]", "no site"),
    ],
)
def test_no_place(image: Image, site: str, words: str) -> None:
    with pytest.raises(Misuse, match=words):
        image.resolve(site)


@pytest.mark.parametrize("text", ["udp_*", "udp_[rs]*", "netis?", "f[0-9]"])
def test_globs(text: str) -> None:
    assert is_glob(text)


def test_as_nm_prints_it(elf_path: Path, elf_image: Image) -> None:
    run = subprocess.run(["powerpc-linux-gnu-nm", elf_path], check=True, capture_output=True, text=True)
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) > 8
    for address, _, _ in lines:
        assert elf_image.resolve(address) == int(address, 16)


def test_a_c_function_comes_before_a_label_of_that_name(tmp_path: Path) -> None:
    kernel = macho()
    at = kernel.symbols[4][3]
    kernel.symbols += [("f", 0xE, 2, at + 8), ("lonely", 0xE, 2, at + 12), ("_lone", 0xE, 2, at + 16)]
    kernel.symbols += [("__twin", 0xE, 2, at + 20), ("_twin", 0xE, 2, at + 24)]
    (tmp_path / "mach_kernel").write_bytes(kernel.build())
    image = Image.load(tmp_path / "mach_kernel")
    assert image.resolve("f") == image.resolve("_f") == image.lookup("f") == at
    assert image.resolve("f+0x4") == at + 4
    assert image.resolve("lonely") == at + 12
    assert image.resolve("_twin") == image.resolve("twin") == at + 24  # as nm has it, and as C has it
    assert image.resolve("__twin") == at + 20


def test_commands_take_them(elf_path: Path, elf_image: Image) -> None:
    main = elf_image.lookup("main")
    for site in (f"{main:08x}", "main+0x0/0xc", f"[<{main:08x}>] main+0x0/0xc"):
        for command in ("live", "cfg"):
            result = CliRunner().invoke(application(), [command, str(elf_path), site, "--json"])
            assert result.exit_code == 0, result.output
            assert f'"address": {main}' in result.output or f'"address":{main}' in result.output


@pytest.mark.parametrize("arguments", [["live", "setpu+0x4"], ["cfg", "setpu"], ["functions", "setpu*"]])
def test_no_match_names_near_ones(elf_path: Path, arguments: list[str]) -> None:
    command, what = arguments
    result = CliRunner().invoke(application(), [command, str(elf_path), what])
    assert isinstance(result.exception, Misuse)
    assert "did you mean setup" in str(result.exception)


def test_unknown_symbols_keep_their_kind(image: Image) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        image.resolve("plane+0x4/0x10")
    assert caught.value.near == ("plain",)
