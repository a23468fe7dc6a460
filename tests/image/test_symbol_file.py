"""A file with nothing but symbols is what readers of ELF take."""

from __future__ import annotations

import io
from typing import Any

from elftools.elf.elffile import ELFFile

from kgdbpatch.image.symbol_file import Place, symbol_file


def test_names_stand_in_their_sections() -> None:
    pieces = [(0x1000, 0x1100), (0xC000_0000, 0xC000_2000)]
    places = [
        Place("patch1", 0x1000, 0),
        Place("patch1_count", 0x1010, 16),
        Place("udp_sendmsg", 0xC000_1000, 8),
        Place("patch1_hits", 0x1080, 0, code=False),
        Place("nowhere", 0x5000, 4),
    ]
    elf = ELFFile(io.BytesIO(symbol_file(pieces, places)))
    assert (elf["e_machine"], elf.little_endian, elf.elfclass) == ("EM_PPC", False, 32)
    table: Any = elf.get_section_by_name(".symtab")
    found = {one.name: one for one in table.iter_symbols() if one.name}
    assert {name: one["st_value"] for name, one in found.items()} == {
        place.name: place.address for place in places[:4]
    }
    assert found["patch1_count"]["st_info"]["type"] == "STT_FUNC"
    assert found["patch1_hits"]["st_info"]["type"] == "STT_OBJECT"
    for one in found.values():
        section: Any = elf.get_section(one["st_shndx"])
        assert section["sh_addr"] <= one["st_value"] < section["sh_addr"] + section["sh_size"]


def test_an_empty_one() -> None:
    table: Any = ELFFile(io.BytesIO(symbol_file([], []))).get_section_by_name(".symtab")
    assert table.num_symbols() == 1
