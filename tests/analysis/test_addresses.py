"""Addresses that functions put together: only where the lis reaches the immediate."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from kgdbpatch.analysis.addresses import made_addresses
from kgdbpatch.analysis.call_graph import CallKind
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel import analyses, catalog

from .code import BASE, assemble

pytestmark = pytest.mark.skipif(not shutil.which("powerpc-linux-gnu-as"), reason="no GNU assembler")
_PLACES = np.array([0x00028010, 0x00038010, 0x00029010, 0xC0018010], dtype=np.int64)


def _made(source: str) -> list[int]:
    from kgdbpatch.analysis.interprocedural import analyze_program
    from kgdbpatch.isa.abi import SYSV

    words = assemble(source)
    liveness = analyze_program([(BASE, words)], [(BASE, 4 * len(words))], SYSV, [], ImplicitEdges({}))
    function, number = made_addresses(liveness.blocks, liveness.word_effects.defs, _PLACES)
    assert not function.any()
    return [int(place) for place in _PLACES[number]]


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("lis 9,3\n addi 9,9,-0x7ff0\n blr", [0x28010]),
        ("lis 9,2\n ori 3,9,0x8010\n blr", [0x28010]),
        ("lis 9,3\n lis 8,4\n addi 9,9,-0x7ff0\n addi 8,8,-0x7ff0\n blr", [0x28010, 0x38010]),
        # another register, another value, a value of the same register that is gone
        ("lis 9,3\n addi 9,8,-0x7ff0\n blr", []),
        ("lis 9,3\n li 9,7\n addi 9,9,-0x7ff0\n blr", []),
        ("lis 9,3\n mr 4,9\n lis 9,4\n addi 9,9,-0x7ff0\n blr", [0x38010]),
        ("lis 9,3\n lwz 9,0(9)\n addi 9,9,-0x7ff0\n blr", []),
        # a call keeps r31 and not r9; a way around it keeps both
        ("lis 9,3\n lis 31,4\n bctrl\n addi 3,9,-0x7ff0\n addi 4,31,-0x7ff0\n blr", [0x38010]),
        ("lis 9,3\n beq 1f\n bctrl\n1: addi 3,9,-0x7ff0\n blr", [0x28010]),
        # a lis behind the immediate counts in a loop only
        ("addi 9,9,-0x7ff0\n lis 9,3\n blr", []),
        ("1: addi 8,9,-0x7ff0\n lis 9,3\n bdnz 1b\n blr", [0x28010]),
        ("b 1f\n lis 9,4\n blr\n1: addi 9,9,-0x7ff0\n blr", []),
    ],
)
def test_what_data_flow_proves(source: str, made: list[int]) -> None:
    assert _made(source) == made


_C = r"""
struct operations { int (*send)(int); int (*receive)(int); int size; };
#define F(n) __attribute__((noinline)) int f##n(int a) { __asm__ volatile("" : "+r"(a)); return a + n; }
F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
struct operations first = { f0, f1, 3 }, second = { f2, f3, 4 };
const struct operations constant = { f4, f0, 5 };
int numbers[4] = { 1, 2, 3, 4 };
extern void hand(void *, int);
int entry(int a)
{
    hand(&first, a);
    if (a > 3) hand(f5, numbers[a & 3]);
    return constant.send(a) + f6(a);
}
int other(int a) { hand((void *)&second, a); hand(numbers, f7(a)); return numbers[1]; }
void hand(void *p, int n) { numbers[n & 3] = (int)p; }
"""


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2"])
def test_as_the_linker_relocated_it(level: str, tmp_path: Path) -> None:
    """An edge of kind address stands for relocations: ADDR16_LO in a function, ADDR32 in data."""
    (tmp_path / "a.c").write_text(_C)
    flags = [level, "-ffreestanding", "-fno-pic", "-msdata=none", "-nostdlib", "-static", "-Wl,-e,entry"]
    flags += [
        "-ffunction-sections",
        "-fdata-sections",
        "-fno-asynchronous-unwind-tables",
        "-Wl,--emit-relocs",
    ]
    subprocess.run(["powerpc-linux-gnu-gcc", *flags, "-o", "kernel", "a.c"], cwd=tmp_path, check=True)
    image = catalog.open_image(str(tmp_path / "kernel"))
    graph = analyses.call_graph(image)
    found = {
        (image.symbolize(c.source), image.symbolize(c.target))
        for c in graph.calls
        if c.kind is CallKind.ADDRESS
    }
    expected = set()
    with (tmp_path / "kernel").open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = list(table.iter_symbols())
        for section in elf.iter_sections():
            for entry in section.iter_relocations() if isinstance(section, RelocationSection) else ():
                holder = image.symbolize(entry["r_offset"] & ~3).split("+")[0]
                name = image.symbolize(symbols[entry["r_info_sym"]]["st_value"] + entry["r_addend"])
                word = int.from_bytes(image.read(entry["r_offset"] & ~3, 4), "big")
                makes = entry["r_info_type"] == 4 and word >> 26 == 14  # ADDR16_LO of an addi
                if makes or entry["r_info_type"] == 1:
                    expected.add((holder, name))
    holders = {image.symbolize(place) for place in graph.objects}
    assert holders == {"first", "second", "constant"}
    functions = {function.name for function in image.functions}
    called = {(image.symbolize(c.source), image.symbolize(c.target)) for c in graph.calls} - found
    assert found == {(a, b) for a, b in expected if b in functions | holders} - called
    assert ("first", "f1") in found
    assert ("other", "second") in found


@pytest.mark.linux
def test_who_hands_out_a_function_of_linux() -> None:
    path = Recipe.find("linux").image_path()
    if path is None:
        pytest.skip("the image of 'linux' is not built; run: kgdbpatch image build linux")
    image = catalog.open_image(str(path))
    graph = analyses.call_graph(image)
    places = {image.symbolize(c.source) for c in graph.callers(image.lookup("udp_sendmsg"))}
    assert {"udp_prot", "udplite_prot"} <= places
    assert not places & {"inet_init", "logic_pio_to_hwaddr", "sockstat_seq_show"}
    users = {image.symbolize(c.source) for c in graph.callers(image.lookup("udp_prot"))}
    assert "inet_init" in users
