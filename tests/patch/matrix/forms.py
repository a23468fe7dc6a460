"""The forms of instructions to displace: every branch with every BO, BI, AA and LK at its boundaries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Form", "forms"]

MIB = 1 << 20
_FAR = (-32 * MIB, 32 * MIB - 4)  # boundaries of b
_BC = (-0x8000, 0x7FFC)  # and of bc
_NEAR = (0, 4, 8, 0x100)  # itself, the next word, behind it, further
ABSOLUTE = (0x01F0_0000, 0x01FF_FFFC)
ABSOLUTE_BC = (0x5000, 0x7FFC)

PLAIN = (
    (0x3864_0001, "addi r3,r4,1"),
    (0x7C08_02A6, "mflr r0"),
    (0x7C08_03A6, "mtlr r0"),
    (0x7D89_03A6, "mtctr r12"),
    (0x7D60_8120, "mtcrf 8,r11"),
    (0x7C00_0026, "mfcr r0"),
    (0x7C64_2814, "addc r3,r4,r5"),
    (0x7C64_2915, "adde. r3,r4,r5"),
    (0x2C03_0000, "cmpwi r3,0"),
    (0x4C42_1382, "cror 2,2,2"),
    (0x9421_FFC0, "stwu r1,-64(r1)"),
    (0x3821_0040, "addi r1,r1,64"),
    (0x9001_0014, "stw r0,20(r1)"),
    (0xBFC1_0018, "stmw r30,24(r1)"),
    (0x7C60_00A6, "mfmsr r3"),
    (0x7FE0_0124, "mtmsr r31"),
    (0x4400_0002, "sc"),
    (0x7C00_04AC, "sync"),
    (0x7C20_04AC, "lwsync"),
    (0x7C40_04AC, "ptesync"),
    (0x4C00_012C, "isync"),
)


@dataclass(frozen=True)
class Form:
    """An instruction: its word, where it goes as a distance or address (None: by register), its text.

    ``red_zone``: it reads below r1. ``then``: the word behind it, which tells what it did.
    """

    word: int
    text: str
    distance: int | None = None
    absolute: bool = False
    red_zone: bool = False
    then: int | None = None

    def target(self, site: int) -> int | None:
        """Return where it goes from ``site``."""
        if self.distance is None:
            return None
        return self.distance if self.absolute else site + self.distance


def _direct() -> Iterator[Form]:
    for link in (0, 1):
        for distance in (*_NEAR, *_FAR):
            yield Form(18 << 26 | distance & 0x03FF_FFFC | link, f"b{'l' * link} .{distance:+#x}", distance)
        for target in ABSOLUTE:
            yield Form(18 << 26 | target | 2 | link, f"b{'l' * link}a {target:#x}", target, absolute=True)
        for bo in range(32):
            for number, distance in enumerate((*_NEAR, *_BC)):
                bi = bo * 7 + number * 5 + link * 3 & 31
                word = 16 << 26 | bo << 21 | bi << 16 | distance & 0xFFFC | link
                yield Form(word, f"bc{'l' * link} {bo},{bi},.{distance:+#x}", distance)
            for number, target in enumerate(ABSOLUTE_BC):
                bi = bo * 11 + number * 16 + link & 31
                word = 16 << 26 | bo << 21 | bi << 16 | target | 2 | link
                yield Form(word, f"bc{'l' * link}a {bo},{bi},{target:#x}", target, absolute=True)
        yield Form(0x429F_0004 | link, f"bc{'l' * link} 20,31,.+4", 4)  # get-PC


def _indirect() -> Iterator[Form]:
    for link in (0, 1):
        for bo in range(32):
            for bi in (bo & 31, 31 - bo):
                word, by = 19 << 26 | bo << 21 | bi << 16 | link, f"{'l' * link} {bo},{bi}"
                yield Form(word | 16 << 1, f"bclr{by}")
                if bo & 4:
                    yield Form(word | 528 << 1, f"bcctr{by}")


def forms() -> list[Form]:
    """Return all forms."""
    plain = [Form(word, text) for word, text in PLAIN]
    below = Form(0x8141_FFF0, "lwz r10,-16(r1)", red_zone=True)
    reserve = Form(0x7C80_0828, "lwarx r4,0,r1", then=0x7C80_092D)  # stwcx. r4,0,r1
    return [*_direct(), *_indirect(), *plain, below, *[reserve] * 4, Form(0x4C00_0064, "rfi")]
