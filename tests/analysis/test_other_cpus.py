"""Instructions of other CPUs: control goes where it goes there, everything else about them is unknown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kgdbpatch.analysis.cfg import ExitKind, FlowGraph
from kgdbpatch.analysis.hazard_filter import may_have_hazard
from kgdbpatch.analysis.program import Program
from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.image import Image
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.registers import ALL
from kgdbpatch.kernel import offline
from kgdbpatch.patch.payload import asm_payload
from kgdbpatch.toolchain.compile import compile_c, link

from .code import BASE, assemble, needs_as


def _kernel(folder: Path, source: str) -> Image:
    command = ["powerpc-linux-gnu-as", "-mregnames", "-mppc", "-o", "k.o"]
    subprocess.run(command, input=source, text=True, check=True, cwd=folder)
    subprocess.run(["powerpc-linux-gnu-ld", "-melf32ppc", "-o", "k", "k.o"], check=True, cwd=folder)
    return Image.load(folder / "k")


# ended by, machine that the assembler knows it of
_LEAVING = [
    ("rfci", "e500"),
    ("rfdi", "e500mc"),
    ("rfmci", "e500"),
    ("rfgi", "e500mc"),
    ("rfid", "power4"),
    ("hrfid", "power5"),
]
_OTHERS = [
    *_LEAVING,
    ("wrteei 0", "e500"),
    ("dssall", "7400"),
    (".long 0x4e800460 # bctar", "power8"),
]


@needs_as
@pytest.mark.parametrize(("name", "machine"), _LEAVING)
def test_a_return_from_another_cpus_interrupt_ends_its_block(name: str, machine: str) -> None:
    source = f'.machine "{machine}"; beq 1f; {name}; .long 0x12345678; 1: li r4,2; {name}; nop'
    words = assemble(source)
    graph = FlowGraph(words, BASE)
    assert [start - BASE for start in graph.blocks] == [0, 4, 8, 12, 20]
    assert [leaving.kind for leaving in graph.blocks[BASE + 4].exits] == [ExitKind.RFI]
    assert [edge.target - BASE for block in graph.blocks.values() for edge in block.successors] == [12, 4, 12]
    assert {block.start - BASE for block in graph.unreached} == {8, 20}
    assert may_have_hazard(words)
    assert decode(int(words[1])).uses == ALL
    program = Program([(BASE, words)], [(BASE, 4 * len(words))])
    assert (program.transfers == [True, True, False, False, True, False]).all()


def test_branches_to_the_target_register_of_power8_are_told_apart() -> None:
    always, perhaps, linked = 0x4E80_0460, 0x4D82_0460, 0x4E80_0461
    assert [decode(word).kind for word in (always, perhaps, linked)] == [
        Kind.INDIRECT,
        Kind.INDIRECT,
        Kind.CALL,
    ]
    assert [decode(word).conditional for word in (always, perhaps)] == [False, True]


@needs_as
@pytest.mark.parametrize(("name", "machine"), _OTHERS)
def test_they_are_no_sites(tmp_path: Path, name: str, machine: str) -> None:
    kernel = _kernel(tmp_path, f'.globl _start\n_start: .machine "{machine}"\n nop\n {name}\n blr\n')
    site_checker = offline.site_checker(kernel)
    site_checker.site(kernel.entry)
    with pytest.raises(Refused) as refused:
        site_checker.site(kernel.entry + 4, force=True)
    assert refused.value.rule == "foreign"
    assert refused.value.address == kernel.entry + 4


@needs_as
@pytest.mark.parametrize("name", ["evmergelo r3,r4,r5", "wrteei 0", "tlbwe", "rfci"])
def test_they_are_sites_where_they_are_the_cpus_own(tmp_path: Path, name: str) -> None:
    """A file that uses SPE says that it is for an e500."""
    source = f'.globl _start\n_start: .machine "e500"\n evor r3,r3,r3\n {name}\n blr\n'
    kernel = _kernel(tmp_path, source)
    assert kernel.model == "e500"
    site = offline.site_checker(kernel).site(kernel.entry + 4)
    assert not site.instruction.foreign
    assert name == "rfci" or site.free >= {"r11", "r12"}  # what an interrupted context needs is not known


@needs_as
def test_they_are_no_part_of_payloads(tmp_path: Path) -> None:
    words = assemble(".machine e500\n wrteei 0").tolist()
    with pytest.raises(BadPatch, match="no instruction of this CPU"):
        asm_payload(lambda _: words, BASE, SYSV)
    source = tmp_path / "x.c"
    source.write_text('void x(void) { asm(".machine push; .machine e500; rfci; .machine pop"); }')
    with pytest.raises(BadPatch, match="no instruction of this CPU"):
        link(compile_c(source), BASE, dict[str, int]().__getitem__)
