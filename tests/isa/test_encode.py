"""Every encoder against GNU as."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kgdbpatch.isa import encode

CASES = {
    "b .+0x100": encode.b(0, 0x100),
    "bl .-4": encode.bl(0x100, 0xFC),
    "ba 0x1000": encode.ba(0x1000),
    "bla 0x1ff0": encode.bla(0x1FF0),
    "bc 4,2,.-8": encode.bc(4, 2, 8, 0),
    "lis 3,0x7234": encode.lis(3, 0x7234),
    "addis 3,4,0x7234": encode.addis(3, 4, 0x7234),
    "addi 3,4,-5": encode.addi(3, 4, -5),
    "ori 3,4,0xffff": encode.ori(3, 4, 0xFFFF),
    "lwz 3,-4(1)": encode.lwz(3, -4, 1),
    "stw 3,8(0)": encode.stw(3, 8, 0),
    "stwu 1,-64(1)": encode.stwu(1, -64, 1),
    "lwarx 3,0,4": encode.lwarx(3, 0, 4),
    "stwcx. 3,0,4": encode.stwcx(3, 0, 4),
    "mflr 5": encode.mflr(5),
    "mtlr 5": encode.mtlr(5),
    "mfctr 5": encode.mfctr(5),
    "mtctr 31": encode.mtctr(31),
    "mfxer 6": encode.mfxer(6),
    "mtxer 6": encode.mtxer(6),
    "mfspr 6,26": encode.mfspr(6, 26),
    "mtspr 26,6": encode.mtspr(26, 6),
    "rlwimi 12,11,1,16,28": encode.rlwimi(12, 11, 1, 16, 28),
    "cmplw 3,4": encode.cmplw(3, 4),
    "cmpwi 3,-1": encode.cmpwi(3, -1),
    "twi 31,17,0x7ffe": encode.twi(31, 17, 0x7FFE),
    "rfi": encode.rfi(),
    "mfcr 7": encode.mfcr(7),
    "mtcrf 0x81,7": encode.mtcrf(0x81, 7),
    "nop": encode.nop(),
    "blr": encode.blr(),
    "bctr": encode.bctr(),
    "bctrl": encode.bctrl(),
}


def test_words_are_those_of_the_assembler(tmp_path: Path) -> None:
    source, object_, binary = (tmp_path / name for name in ("x.s", "x.o", "x.bin"))
    source.write_text("\n".join(CASES) + "\n")
    subprocess.run(["powerpc-linux-gnu-as", "-o", object_, source], check=True)
    subprocess.run(["powerpc-linux-gnu-objcopy", "-O", "binary", object_, binary], check=True)
    words = struct.unpack(f">{len(CASES)}I", binary.read_bytes())
    assert dict(zip(CASES, words, strict=True)) == CASES


def test_nothing_is_truncated() -> None:
    too_far: list[Callable[[], int]] = [
        lambda: encode.b(0, 1 << 25),
        lambda: encode.b(0x1000, 0x1002),
        lambda: encode.ba(1 << 25),
        lambda: encode.bc(12, 0, 0, 0x8000),
        lambda: encode.addi(3, 3, 0x8000),
        lambda: encode.ori(3, 3, -1),
        lambda: encode.lwz(32, 0, 1),
    ]
    for make in too_far:
        with pytest.raises(encode.EncodeError):
            make()


def test_branches_wrap_around_the_address_space() -> None:
    word = encode.b(0xFFFF_FF00, 0x100)
    assert encode.branch_target(0xFFFF_FF00, word) == 0x100
    assert encode.branch_target(0x100, encode.b(0x100, 0xFFFF_FF00)) == 0xFFFF_FF00
