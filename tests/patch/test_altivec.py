"""AltiVec in a kernel: sites, liveness and displacement on a 74xx; on a 7xx its words are of other CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from analysis.code import BASE, assemble, link, needs_as

from kgdbpatch.analysis.function_starts import guess_functions
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.image import Image
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.altivec import MODEL
from kgdbpatch.isa.decode import Kind
from kgdbpatch.isa.registers import VECTORS, names
from kgdbpatch.kernel import offline
from kgdbpatch.patch.payload import asm_payload
from kgdbpatch.personality import personality
from kgdbpatch.personality.base import Window
from kgdbpatch.toolchain import compile as compiling
from kgdbpatch.toolchain.gnu import available

pytestmark = needs_as

SOURCE = """
        .machine altivec
        .globl  copy
        .type   copy,@function
copy:   mfvrsave 6
        lvx     0,0,4
        addi    7,5,16
        vaddubm 0,0,0
        stvx    0,7,3
        vcmpequb. 1,0,0
        bne     6,1f
        li      3,0
1:      blr
        .size   copy,.-copy
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return link(SOURCE, tmp_path_factory.mktemp("altivec"))


def test_a_cpu_with_altivec_makes_sites_of_it(image: Image) -> None:
    start = image.lookup("copy")
    checker = offline.site_checker(image.on(MODEL))
    load = checker.site(start + 4).instruction
    assert (load.text, load.kind, load.foreign) == ("lvx v0,0,r4", Kind.LOAD, False)
    for offset in range(0, 36, 4):
        checker.site(start + offset)
    payload = asm_payload(lambda _: assembled("li 7,1"), BASE, SYSV)
    _, plan = offline.planner(image.on(MODEL)).plan_site(start + 4, payload)
    assert load.word.to_bytes(4, "big") in plan.code  # displaced as it is
    with pytest.raises(Refused) as refused:
        offline.site_checker(image).site(start + 4)
    assert refused.value.rule == "foreign"


def test_liveness_sees_through_altivec(image: Image) -> None:
    start = image.lookup("copy")

    def live(model: str, offset: int) -> set[str]:
        return set(offline.site_checker(image.on(model)).live(start + offset).live)

    vectors_ = set(names(VECTORS))
    assert vectors_ <= live(MODEL, 0)
    assert not vectors_ & live("", 0)
    # what the load reads is live before it; the words of other CPUs read everything
    assert {"r4", "r5"} <= live(MODEL, 4)
    assert not {"r6", "r9", "cr6", "ctr"} & live(MODEL, 8)
    assert {"r6", "r9", "cr6", "ctr"} <= live("", 8)
    assert "r7" in live(MODEL, 16)
    assert "r7" not in live(MODEL, 20)
    assert "cr6" in live(MODEL, 24)


def assembled(text: str) -> list[int]:
    return [int(word) for word in assemble(f".machine altivec\n{text}")]


@pytest.mark.parametrize("text", ["vxor 1,1,1", "lvx 1,0,3", "stvewx 1,3,4", "mfvscr 1", "vcmpequb. 1,2,3"])
def test_a_payload_may_not_use_it(text: str) -> None:
    words = assembled(f"li 3,1\n {text}")
    with pytest.raises(Refused, match=rf"payload instruction 2 \({text.split()[0]}.*MSR\[VEC\]") as refused:
        asm_payload(lambda _: words, BASE, SYSV, model=MODEL)
    assert (refused.value.rule, refused.value.exit_code) == ("vector", 3)
    with pytest.raises(BadPatch, match="no instruction of this CPU"):
        asm_payload(lambda _: words, BASE, SYSV)


@pytest.mark.parametrize("text", ["dss 1", "dst 3,4,0", "mfvrsave 3"])
def test_a_payload_may_use_what_needs_no_vector_register(text: str) -> None:
    words = assembled(text)
    assert asm_payload(lambda _: words, BASE, SYSV, model=MODEL).calls is False


@pytest.mark.skipif(not available("gcc"), reason="powerpc-linux-gnu-gcc is not installed")
@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("750", "'.* is no instruction of this CPU"),
        ("7400", "'vxor v1,v1,v1' uses AltiVec, which is off in kernel code"),
    ],
)
def test_a_payload_in_c_may_not_use_it(tmp_path: Path, target: str, why: str) -> None:
    source = tmp_path / "x.c"
    source.write_text('void x(void) { asm(".machine push; .machine altivec; vxor 1,1,1; .machine pop"); }')
    with pytest.raises(BadPatch, match=why):
        compiling.link(compiling.compile_c(source, target=target), BASE, dict[str, int]().__getitem__)


def test_altivec_unavailable_is_a_vector_of_a_74xx_and_its_room_nobodys(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } }")
    code = ".globl f\nf: b .\n .space 0xf00-4\n b f\n .space 0xfc\n b f\n .space 0x1000"
    image, linux = link(code, tmp_path, "-T", script), personality("linux")
    plain, with_altivec = Ppc6xx(), Ppc6xx(altivec=True)
    assert set(with_altivec.vectors(linux, image)) - set(plain.vectors(linux, image)) == {0xC000_0F20}
    assert plain.vector_tails(linux, image)[0] == Window(0xC000_0F04, 0xC000_1000)
    assert with_altivec.vector_tails(linux, image)[0] == Window(0xC000_0F04, 0xC000_0F20)


def test_functions_are_guessed_through_altivec() -> None:
    words = assemble(
        """
        .machine altivec
        stwu 1,-16(1)
        mflr 0
        stw 0,20(1)
        bl 1f
        lwz 0,20(1)
        mtlr 0
        addi 1,1,16
        blr
1:      stwu 1,-16(1)
        vxor 1,1,1
        stwu 1,-32(1)
        mflr 0
        addi 1,1,48
        blr
        """
    )
    assert guess_functions([(BASE, words)], (), MODEL) == [(BASE, 32), (BASE + 32, 24)]
    assert guess_functions([(BASE, words)]) != guess_functions([(BASE, words)], (), MODEL)
