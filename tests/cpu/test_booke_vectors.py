"""Where a kernel on Book E takes traps: read out of the code that says so to the CPU, else nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from analysis.code import link, needs_as

from kgdbpatch.cpu.booke import E500
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.trap import Hook
from kgdbpatch.personality import personality

pytestmark = needs_as
BASE = 0xC000_0000
LINUX = "lis 4,base@h; mtspr 63,4; li 26,handler@l; mtspr 406,26; sync"
HANDLER = "mtspr 272,10; mfspr 10,275; stw 11,0(10); b base"


def kernel(place: Path, setup: str, handler: str = HANDLER, room: str = ".balign 4096; .long 0") -> Image:
    """Make a kernel that sets its exceptions up so, and takes traps so; behind its code it has ``room``."""
    script = place / "script"
    script.write_text(
        "SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } .other : AT(ADDR(.other) - 0xc0000000)"
        " { *(.other) } }"
    )
    source = f'base: {setup}\n blr\n .balign 16\nhandler: {handler}\n .section .other,"aw"\n {room}'
    return link(source, place, "-T", script)


def hook(image: Image) -> Hook | None:
    def words(at: int, count: int) -> npt.NDArray[np.uint32]:
        held = [section for section in image.code_sections() if at in section]
        return np.array(
            [
                int.from_bytes(image.read(start, 4), "big") if held and start in held[0] else 0
                for start in range(at, at + 4 * count, 4)
            ],
            np.uint32,
        )

    linux = personality("linux")
    return E500().trap_hook(linux, image, linux.arena(image), words)


@pytest.mark.parametrize(
    "setup",
    [
        LINUX,
        "lis 3,handler@h; mtspr 63,3; ori 3,3,handler@l; mtspr 406,3",
        "lis 3,handler@ha; nop; addi 5,3,handler@l; lis 3,base@h; mtspr 63,3; mtspr 406,5",
        f"{LINUX}; li 0,0; {LINUX}",  # as other CPUs do
    ],
)
def test_the_handler_is_where_the_registers_say(tmp_path: Path, setup: str) -> None:
    image = kernel(tmp_path, setup)
    found = hook(image)
    assert found is not None
    assert found.vector == image.lookup("handler")
    assert found.original == 0x7D50_43A6  # mtspr 272,r10
    assert found.scratch == 272
    assert found.shift == BASE
    assert found.at % 16 == 0
    assert max(section.end for section in image.code_sections()) <= found.at
    assert found.at + found.size <= BASE + 0x1000


@pytest.mark.parametrize(
    "setup",
    [
        "nop",
        "lis 4,base@h; mtspr 63,4",
        "li 26,handler@l; mtspr 406,26",
        "lwz 4,0(3); mtspr 63,4; li 26,handler@l; mtspr 406,26",  # known when it runs
        "lis 4,base@h; lwz 4,0(4); mtspr 63,4; li 26,handler@l; mtspr 406,26",
        "lis 4,base@h; bl base; mtspr 63,4; li 26,handler@l; mtspr 406,26",
        f"{LINUX}; li 26,0x2000; mtspr 406,26",  # two that do not agree
        "lis 4,0xd000; mtspr 63,4; li 26,handler@l; mtspr 406,26",  # no code of the kernel's
    ],
)
def test_without_one_place_there_is_no_hook(tmp_path: Path, setup: str) -> None:
    assert hook(kernel(tmp_path, setup)) is None


@pytest.mark.parametrize(
    ("handler", "scratch"),
    [
        ("stwu 1,-16(1); mtspr 274,11; b base", 274),
        ("mfspr 10,275; mtspr 275,11; mtspr 279,12; b base", 279),
        ("mfspr 10,260; mtspr 276,11; b base", None),  # SPRG4, read as users do
        ("mtspr 26,3; b base; mtspr 272,10", None),
    ],
)
def test_a_register_that_the_handler_has_no_use_for_is_lent(
    tmp_path: Path, handler: str, scratch: int | None
) -> None:
    found = hook(kernel(tmp_path, LINUX, handler))
    assert (None if found is None else found.scratch) == scratch


def test_a_full_page_has_no_room(tmp_path: Path) -> None:
    assert hook(kernel(tmp_path, LINUX, f"{HANDLER}; .fill 1000,4,0x60000000")) is None


def test_the_kernels_own_traps_go_on_in_its_handler(tmp_path: Path) -> None:
    image = kernel(tmp_path, LINUX)
    found = hook(image)
    assert found is not None
    code = E500().hook_words(found)
    (at,) = [at for at, word in code.items() if word == found.original]
    onward = decode(code[at + 4], at + 4)
    assert onward.target == found.vector + 4
    assert all(not decode(word, at, "e500").foreign for at, word in code.items())
