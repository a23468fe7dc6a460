from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image import Function, Image, Section

from .conftest import macho


def names(image: Image) -> dict[str, Function]:
    return {function.name: function for function in image.functions}


class TestMachO:
    def test_header(self, macho_image: Image, macho_path: Path) -> None:
        assert macho_image.format == "mach-o"
        assert macho_image.entry == 0x3010
        assert macho_image.symbol_prefix == "_"
        assert macho_image.sha256 == hashlib.sha256(macho_path.read_bytes()).hexdigest()
        assert macho_image.path == macho_path

    def test_sections(self, macho_image: Image) -> None:
        by_name = {section.name: section for section in macho_image.sections}
        assert list(by_name) == [
            "__VECTORS,__interrupts",
            "__TEXT,__text",
            "__TEXT,__const",
            "__DATA,__data",
            "__DATA,__bss",
        ]
        assert [s.name for s in macho_image.code_sections()] == ["__VECTORS,__interrupts", "__TEXT,__text"]
        assert by_name["__DATA,__data"].writable
        assert not by_name["__TEXT,__text"].writable
        assert by_name["__DATA,__bss"].size == 0x100
        assert by_name["__DATA,__bss"].data == b""

    def test_functions_follow_the_papers_rules(self, macho_image: Image) -> None:
        text, vectors = "__TEXT,__text", "__VECTORS,__interrupts"
        assert macho_image.functions == (
            Function(".L_reset", 0x40, 0x40, (), vectors),
            Function("_trap", 0x80, 0x80, (), vectors),
            Function("_f", 0x3000, 0x10, ("_f_alias",), text),
            Function("_static", 0x3010, 0x10, (), text),
            Function("_g", 0x3020, 0x60, (), text),
        )

    def test_ordinals_count_from_the_files_start(self, macho_image: Image) -> None:
        sections = {symbol.name: symbol.section for symbol in macho_image.symbols}
        assert sections["_netisr"] == "__DATA,__data"
        assert sections["_msg"] == "__TEXT,__const"
        assert sections["_abs"] == ""

    def test_stabs_are_left_out(self, macho_image: Image) -> None:
        assert "_stab" not in {symbol.name for symbol in macho_image.symbols}

    def test_kinds(self, macho_image: Image) -> None:
        kinds = {symbol.name: symbol.kind for symbol in macho_image.symbols}
        assert kinds["error_exit"] == kinds["inner"] == kinds[".L_not_here"] == "label"
        assert kinds["_netisr"] == "object"
        assert kinds["_abs"] == "absolute"

    def test_the_prefix_may_be_left_out(self, macho_image: Image) -> None:
        assert macho_image.lookup("netisr") == macho_image.lookup("_netisr") == 0x4004

    def test_entry_through_a_function_descriptor(self, tmp_path: Path) -> None:
        file = macho()
        file.entry = 0x4000  # there lies the word 0x3000
        (tmp_path / "k").write_bytes(file.build())
        assert Image.load(tmp_path / "k").entry == 0x3000

    def test_without_a_thread_command(self, tmp_path: Path) -> None:
        file = macho()
        file.entry = None
        (tmp_path / "k").write_bytes(file.build())
        assert Image.load(tmp_path / "k").entry == 0

    def test_obsolete_load_command(self, tmp_path: Path) -> None:
        file = macho()
        file.extra_commands.append(bytes.fromhex("00000010 00000010 00000000 00000000"))
        (tmp_path / "k").write_bytes(file.build())
        assert len(Image.load(tmp_path / "k").functions) == 5

    def test_powerpc_part_of_a_universal_file(self, tmp_path: Path) -> None:
        part = macho().build()
        header = bytes.fromhex("cafebabe 00000002 00000007 00000003 00000030 00000004 00000000")
        header += (18).to_bytes(4, "big") + bytes(4) + (52).to_bytes(4, "big") + len(part).to_bytes(4, "big")
        (tmp_path / "k").write_bytes(header + bytes(4) + b"i386" + part)
        image = Image.load(tmp_path / "k")
        assert image.read(image.lookup("msg"), 5) == b"hello"
        assert len(image.functions) == 5


class TestElf:
    def test_header(self, elf_image: Image) -> None:
        assert elf_image.format == "elf"
        assert elf_image.entry == 0xC0000000
        assert elf_image.symbol_prefix == ""

    def test_functions(self, elf_image: Image) -> None:
        found = names(elf_image)
        assert {name: function.section for name, function in found.items() if name != "twin"} == {
            "_start": ".head.text",
            "asm_routine": ".head.text",
            "local_routine": ".head.text",
            "main": ".text",
            "unsized": ".text",
            "setup": ".init.text",
        }
        assert [f.section for f in elf_image.functions if f.name == "twin"] == [".text", ".text"]

    def test_sizes(self, elf_image: Image) -> None:
        found = names(elf_image)
        assert found["_start"].size == 4  # no size in the file: to the next symbol
        assert found["asm_routine"].size == 8  # over a .L label
        assert found["local_routine"].size == 4  # to the section's end
        assert found["main"].size == 12  # st_size, over a global label inside
        assert found["unsized"].size == 8

    def test_aliases(self, elf_image: Image) -> None:
        assert names(elf_image)["main"].aliases == ("main_alias",)

    def test_sorted(self, elf_image: Image) -> None:
        addresses = [function.address for function in elf_image.functions]
        assert addresses == sorted(addresses)

    def test_data_is_read_as_loaded(self, elf_image: Image) -> None:
        assert elf_image.read(elf_image.lookup("counter"), 4) == b"\x11\x22\x33\x44"
        assert elf_image.read(elf_image.lookup("buffer"), 64) == bytes(64)

    def test_outside(self, elf_image: Image) -> None:
        with pytest.raises(Misuse, match="0x00000000 is not part of vmlinux"):
            elf_image.read(0, 4)

    def test_an_absolute_symbol(self, elf_image: Image) -> None:
        assert elf_image.lookup("const") == 0x1234

    def test_two_local_functions_of_one_name(self, elf_image: Image) -> None:
        with pytest.raises(Misuse, match="'twin' is ambiguous in vmlinux: 0xc00000"):
            elf_image.lookup("twin")


class TestLookups:
    def test_function_at(self, elf_image: Image) -> None:
        main = names(elf_image)["main"]
        for address in range(main.address, main.end):
            assert elf_image.function_at(address) is main
        assert elf_image.function_at(main.end) is names(elf_image)["unsized"]
        assert elf_image.function_at(elf_image.lookup("counter")) is None
        assert elf_image.function_at(0) is None
        assert elf_image.function_at(0xFFFFFFFF) is None

    def test_section_at(self, macho_image: Image) -> None:
        section = macho_image.section_at(0x4108 - 1)
        assert section is not None
        assert section.name == "__DATA,__bss"
        assert macho_image.section_at(0x4108) is None

    @pytest.mark.parametrize("offset", ["+0x8", "+8", " + 8"])
    def test_resolve(self, macho_image: Image, offset: str) -> None:
        assert macho_image.resolve("f" + offset) == 0x3008

    def test_resolve_numbers(self, macho_image: Image) -> None:
        assert macho_image.resolve("0x3008") == 0x3008
        assert macho_image.resolve("0X3000+8") == 0x3008
        assert macho_image.resolve(" _f ") == 0x3000

    @pytest.mark.parametrize("site", ["", "+4", "f+", "f+zz", "f g", "f+4+4", "0xffffffff+1", "f+0x"])
    def test_no_site(self, macho_image: Image, site: str) -> None:
        with pytest.raises(Misuse):
            macho_image.resolve(site)

    def test_unknown_symbol_names_close_ones(self, macho_image: Image) -> None:
        with pytest.raises(
            UnknownSymbol, match=r"no symbol 'netirs' in mach_kernel; did you mean _netisr\?"
        ) as e:
            macho_image.resolve("netirs+4")
        assert e.value.near == ("_netisr",)

    def test_symbolize(self, macho_image: Image) -> None:
        assert macho_image.symbolize(0x3000) == "_f"
        assert macho_image.symbolize(0x3028) == "_g+0x8"
        assert macho_image.symbolize(0x4006) == "_netisr+0x2"
        assert macho_image.symbolize(0x0) == "0x00000000"
        assert macho_image.symbolize(0xDEAD0000) == "0xdead0000"

    def test_symbolize_is_undone_by_resolve(self, elf_image: Image) -> None:
        for function in elf_image.functions:
            if function.name != "twin":
                for address in range(function.address, function.end, 4):
                    assert elf_image.resolve(elf_image.symbolize(address)) == address

    def test_words_are_in_native_order(self, elf_image: Image) -> None:
        text = next(s for s in elf_image.code_sections() if s.name == ".text")
        words = elf_image.words(text)
        assert words.dtype == np.uint32
        assert int(words[0]) == 0x60000000
        assert len(words) == text.size // 4

    def test_section_contains_its_bytes_only(self) -> None:
        section = Section(".text", 16, 8, bytes(8), True, False)
        assert [address in section for address in (15, 16, 23, 24)] == [False, True, True, False]
