from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.image import Image

from .conftest import macho


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture(params=["macho_path", "elf_path"])
def path(request: pytest.FixtureRequest) -> Path:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


def contents(image: Image) -> tuple[object, ...]:
    return (
        image.format,
        image.entry,
        image.sha256,
        image.sections,
        image.segments,
        image.symbols,
        image.functions,
    )


def test_what_is_remembered_is_what_was_read(path: Path, cache: Path) -> None:
    first = Image.load(path)
    assert len(list(cache.iterdir())) == 1
    assert contents(Image.load(path)) == contents(first)


def test_the_second_time_lief_is_not_needed(path: Path) -> None:
    Image.load(path)
    code = "import sys; from kgdbpatch.image import Image\n"
    code += f"Image.load({str(path)!r}); sys.exit('lief' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_universal_file(tmp_path: Path) -> None:
    part = macho().build()
    header = (
        bytes.fromhex("cafebabe 00000001 00000012 00000000 0000001c")
        + len(part).to_bytes(4, "big")
        + bytes(4)
    )
    (tmp_path / "k").write_bytes(header + part)
    assert contents(Image.load(tmp_path / "k")) == contents(Image.load(tmp_path / "k"))


@pytest.mark.parametrize("damage", [b"", b"x" * 20, b"x" * 400])
def test_a_damaged_entry_is_as_good_as_none(path: Path, cache: Path, damage: bytes) -> None:
    first = Image.load(path)
    (entry,) = cache.iterdir()
    entry.write_bytes(damage)
    assert contents(Image.load(path)) == contents(first)
    assert entry.read_bytes() != damage


def test_another_file_is_not_taken_for_it(path: Path, tmp_path: Path, cache: Path) -> None:
    first = Image.load(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x60\0\0\0")
    data[at : at + 4] = b"\x60\0\0\1"
    (tmp_path / "other").write_bytes(data)
    assert contents(Image.load(tmp_path / "other")) != contents(first)
    assert len(list(cache.iterdir())) == 2


def test_no_room_for_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Image.load(path)
    monkeypatch.setenv("KGDBPATCH_CACHE", "/dev/null/nowhere")
    assert contents(Image.load(path)) == contents(first)
