"""ELF files as other tools lay them out say what the plain file says; readelf is the judge of the layout."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import BadImage
from kgdbpatch.image import Image

from . import elf_variants

_READELF = "powerpc-linux-gnu-readelf"


def _image(place: Path, data: bytes) -> Image:
    (place / "kernel").write_bytes(data)
    return Image.load(place / "kernel")


def _symbols(path: Path) -> dict[str, str]:
    """Return the names that readelf gives the defined symbols' sections."""
    run = subprocess.run([_READELF, "-WsS", str(path)], check=True, capture_output=True, text=True)
    sections, found = {}, {}
    for line in run.stdout.replace("[ ", "[").splitlines():
        words = line.split()
        if words and words[0].startswith("[") and words[0][1:-1].isdigit():
            sections[words[0][1:-1]] = words[1]
        elif len(words) == 8 and words[0][:-1].isdigit() and words[6].isdigit():
            found[words[7]] = sections[words[6]]
    return found


def _said(image: Image) -> tuple[object, ...]:
    return (image.entry, image.sections, image.segments, image.symbols, image.functions)


def test_counts_in_section_0(elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    image = _image(tmp_path, elf_variants.extended_numbering(elf_path.read_bytes()))
    assert _said(image) == _said(elf_image)


def test_more_sections_than_16_bits_count(elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    image = _image(tmp_path, elf_variants.many_sections(elf_path.read_bytes(), 0xFF40))
    assert _said(image) == _said(elf_image)
    judged = _symbols(image.path)
    assert judged["main"] == ".text"
    for symbol in image.symbols:
        assert judged.get(symbol.name, "") == symbol.section


def test_an_extended_index_without_its_table(elf_path: Path, tmp_path: Path) -> None:
    data = bytearray(elf_variants.many_sections(elf_path.read_bytes(), 3))
    (at,) = struct.unpack_from(">I", data, 32)
    (count,) = struct.unpack_from(">I", data, at + 20)
    struct.pack_into(">I", data, at + 40 * (count - 1) + 4, 1)  # PROGBITS: no table of indices any more
    assert [s.name for s in _image(tmp_path, bytes(data)).symbols] == ["const"]
    struct.pack_into(">2I", data, at + 40 * (count - 1) + 4, elf_variants.SYMTAB_SHNDX, 0)
    struct.pack_into(">I", data, at + 40 * (count - 1) + 20, 8)
    with pytest.raises(BadImage, match="extended section indices"):
        _image(tmp_path, bytes(data))


@pytest.mark.parametrize("damage", ["sections", "segments"])
def test_counts_beyond_the_file(elf_path: Path, tmp_path: Path, damage: str) -> None:
    data = bytearray(elf_variants.extended_numbering(elf_path.read_bytes()))
    (at,) = struct.unpack_from(">I", data, 32)
    struct.pack_into(">I", data, at + (20 if damage == "sections" else 28), 0x0FFF_FFFF)
    with pytest.raises(BadImage, match="truncated"):
        _image(tmp_path, bytes(data))


def test_segments_serve_without_sections(elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    image = _image(tmp_path, elf_variants.without_sections(elf_path.read_bytes()))
    assert image.segments == elf_image.segments
    assert image.symbols == ()
    code = {section.address: section.data for section in image.code_sections()}
    for section in elf_image.code_sections():
        (part,) = (s for s in image.code_sections() if section.address in s)
        start = section.address - part.address
        assert code[part.address][start : start + section.size] == section.data


def test_a_segment_of_zeros_lies_nowhere_in_the_file(
    elf_path: Path, elf_image: Image, tmp_path: Path
) -> None:
    image = _image(tmp_path, elf_variants.with_empty_segment(elf_path.read_bytes(), 0xD0000000, 0x40))
    assert image.functions == elf_image.functions
    assert image.read(0xD0000000, 0x40) == bytes(0x40)


def test_sections_of_one_name(elf_path: Path, elf_image: Image, tmp_path: Path) -> None:
    data = bytearray(elf_path.read_bytes())
    (at,) = struct.unpack_from(">I", data, 32)
    by_name = {section.name: section for section in elf_image.sections}
    for n, header in enumerate(elf_variants.headers(data)):
        if header[3] == by_name[".init.text"].address and header[5]:
            (other,) = (h for h in elf_variants.headers(data) if h[3] == by_name[".text"].address and h[5])
            struct.pack_into(">I", data, at + 40 * n, other[0])
    image = _image(tmp_path, bytes(data))
    assert [f.address for f in image.functions] == [f.address for f in elf_image.functions]
