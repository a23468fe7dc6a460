"""Encode instructions (PEM, chapter 8); what is out of range raises `EncodeError`, nothing is truncated."""

from __future__ import annotations

from kgdbpatch.errors import Misuse

__all__ = [
    "BRANCH_REACH",
    "EncodeError",
    "absolute_reaches",
    "addi",
    "addis",
    "b",
    "ba",
    "bc",
    "bcctr",
    "bclr",
    "bctr",
    "bctrl",
    "bl",
    "bla",
    "blr",
    "branch_reaches",
    "branch_target",
    "cmplw",
    "cmpwi",
    "lis",
    "load_address",
    "lwarx",
    "lwz",
    "lwzu",
    "mcrf",
    "mfcr",
    "mfctr",
    "mflr",
    "mfmsr",
    "mfspr",
    "mfxer",
    "mtcrf",
    "mtctr",
    "mtlr",
    "mtspr",
    "mtxer",
    "nop",
    "ori",
    "rfi",
    "rlwimi",
    "rlwinm",
    "stmw",
    "stw",
    "stwcx",
    "stwu",
    "twi",
    "xor",
]

BRANCH_REACH = 1 << 25  # I-form: a signed 26-bit byte displacement

_LR, _CTR, _XER = 8, 9, 1


class EncodeError(Misuse):
    """An operand does not fit its field."""


def _gpr(*registers: int) -> None:
    for register in registers:
        if not 0 <= register < 32:
            raise EncodeError(f"no register r{register}")


def _signed16(value: int) -> int:
    if not -0x8000 <= value <= 0x7FFF:
        raise EncodeError(f"{value} does not fit 16 bits signed")
    return value & 0xFFFF


def _unsigned16(value: int) -> int:
    if not 0 <= value <= 0xFFFF:
        raise EncodeError(f"{value} does not fit 16 bits unsigned")
    return value


def _distance(at: int, to: int) -> int:
    """Return ``to - at`` as the CPU adds it: modulo 2**32, in -2**31..2**31-1."""
    return ((to - at + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000


def branch_reaches(at: int, to: int) -> bool:
    """Tell whether a relative ``b`` at ``at`` reaches ``to`` (±32 MiB)."""
    return -BRANCH_REACH <= _distance(at, to) < BRANCH_REACH and not (at | to) & 3


def absolute_reaches(to: int) -> bool:
    """Tell whether ``ba`` reaches ``to``: the lowest and highest 32 MiB."""
    return (to < BRANCH_REACH or to >= 0x1_0000_0000 - BRANCH_REACH) and not to & 3


def _i_form(displacement: int, absolute: int, link: int) -> int:
    return 18 << 26 | displacement & 0x03FF_FFFC | absolute << 1 | link


def b(at: int, to: int, *, link: bool = False) -> int:
    """Encode ``b`` (``bl`` with ``link``) at address ``at`` to address ``to``."""
    if not branch_reaches(at, to):
        raise EncodeError(f"a branch at 0x{at:08x} does not reach 0x{to:08x}")
    return _i_form(_distance(at, to), 0, int(link))


def bl(at: int, to: int) -> int:
    """Encode ``bl`` at address ``at`` to address ``to``."""
    return b(at, to, link=True)


def ba(to: int, *, link: bool = False) -> int:
    """Encode ``ba`` (``bla`` with ``link``) to an address in the lowest or highest 32 MiB."""
    if not absolute_reaches(to):
        raise EncodeError(f"an absolute branch does not reach 0x{to:08x}")
    return _i_form(to, 1, int(link))


def bla(to: int) -> int:
    """Encode ``bla``."""
    return ba(to, link=True)


def branch_target(at: int, word: int) -> int | None:
    """Return where the unconditional branch ``word`` at ``at`` goes; None for other words."""
    if word >> 26 != 18:
        return None
    displacement = (word & 0x03FF_FFFC ^ 0x0200_0000) - 0x0200_0000
    return (displacement if word & 2 else at + displacement) & 0xFFFF_FFFF


def bc(bo: int, bi: int, at: int, to: int) -> int:
    """Encode ``bc BO,BI`` at ``at`` to ``to`` (±32 KiB)."""
    distance = _distance(at, to)
    if not -0x8000 <= distance < 0x8000 or distance & 3:
        raise EncodeError(f"a conditional branch at 0x{at:08x} does not reach 0x{to:08x}")
    if not (0 <= bo < 32 and 0 <= bi < 32):
        raise EncodeError(f"no branch condition BO={bo} BI={bi}")
    return 16 << 26 | bo << 21 | bi << 16 | distance & 0xFFFC


def _d_form(opcode: int, rt: int, ra: int, immediate: int) -> int:
    _gpr(rt, ra)
    return opcode << 26 | rt << 21 | ra << 16 | immediate


def addi(rd: int, ra: int, value: int) -> int:
    """Encode ``addi rD,rA,SIMM`` (rA 0 means the number 0)."""
    return _d_form(14, rd, ra, _signed16(value))


def addis(rd: int, ra: int, value: int) -> int:
    """Encode ``addis rD,rA,IMM``; ``value`` is the upper half, 0..0xffff."""
    return _d_form(15, rd, ra, _unsigned16(value))


def lis(rd: int, value: int) -> int:
    """Encode ``lis rD,IMM``; ``value`` is the upper half, 0..0xffff."""
    return addis(rd, 0, value)


def ori(ra: int, rs: int, value: int) -> int:
    """Encode ``ori rA,rS,UIMM``."""
    return _d_form(24, rs, ra, _unsigned16(value))


def load_address(register: int, address: int) -> list[int]:
    """Encode ``lis`` and ``ori`` that put a 32-bit ``address`` into ``register``."""
    return [lis(register, address >> 16 & 0xFFFF), ori(register, register, address & 0xFFFF)]


def rlwimi(ra: int, rs: int, shift: int, begin: int, end: int) -> int:
    """Encode ``rlwimi rA,rS,SH,MB,ME``."""
    if not (0 <= shift < 32 and 0 <= begin < 32 and 0 <= end < 32):
        raise EncodeError(f"no rotation by {shift} under a mask {begin} to {end}")
    _gpr(ra, rs)
    return 20 << 26 | rs << 21 | ra << 16 | shift << 11 | begin << 6 | end << 1


def rlwinm(ra: int, rs: int, shift: int, begin: int, end: int, *, record: bool = False) -> int:
    """Encode ``rlwinm rA,rS,SH,MB,ME``, or ``rlwinm.`` that compares the result with 0 as well."""
    return rlwimi(ra, rs, shift, begin, end) ^ 1 << 26 | int(record)


def cmpwi(ra: int, value: int) -> int:
    """Encode ``cmpwi rA,SIMM`` (result in cr0)."""
    return _d_form(11, 0, ra, _signed16(value))


def twi(to: int, ra: int, value: int) -> int:
    """Encode ``twi TO,rA,SIMM``; with TO 31 it always traps."""
    return _d_form(3, to, ra, _signed16(value))


def lwz(rd: int, offset: int, ra: int) -> int:
    """Encode ``lwz rD,d(rA)``."""
    return _d_form(32, rd, ra, _signed16(offset))


def lwzu(rd: int, offset: int, ra: int) -> int:
    """Encode ``lwzu rD,d(rA)``."""
    if ra in (0, rd):
        raise EncodeError("the base that is written back is another register than r0 and the target")
    return _d_form(33, rd, ra, _signed16(offset))


def stw(rs: int, offset: int, ra: int) -> int:
    """Encode ``stw rS,d(rA)``."""
    return _d_form(36, rs, ra, _signed16(offset))


def stmw(rs: int, offset: int, ra: int) -> int:
    """Encode ``stmw rS,d(rA)``: registers rS to r31, one word after the other."""
    return _d_form(47, rs, ra, _signed16(offset))


def stwu(rs: int, offset: int, ra: int) -> int:
    """Encode ``stwu rS,d(rA)``."""
    return _d_form(37, rs, ra, _signed16(offset))


def _x_form(rt: int, ra: int, rb: int, extended: int, record: int = 0) -> int:
    _gpr(rt, ra, rb)
    return 31 << 26 | rt << 21 | ra << 16 | rb << 11 | extended << 1 | record


def cmplw(ra: int, rb: int) -> int:
    """Encode ``cmplw rA,rB`` (result in cr0)."""
    return _x_form(0, ra, rb, 32)


def xor(ra: int, rs: int, rb: int) -> int:
    """Encode ``xor rA,rS,rB``."""
    return _x_form(rs, ra, rb, 316)


def lwarx(rd: int, ra: int, rb: int) -> int:
    """Encode ``lwarx rD,rA,rB``."""
    return _x_form(rd, ra, rb, 20)


def stwcx(rs: int, ra: int, rb: int) -> int:
    """Encode ``stwcx. rS,rA,rB``."""
    return _x_form(rs, ra, rb, 150, 1)


def _spr(rt: int, number: int, extended: int) -> int:
    return _x_form(rt, number & 31, number >> 5, extended)


def mflr(rd: int) -> int:
    """Encode ``mflr rD``."""
    return _spr(rd, _LR, 339)


def mtlr(rs: int) -> int:
    """Encode ``mtlr rS``."""
    return _spr(rs, _LR, 467)


def mfctr(rd: int) -> int:
    """Encode ``mfctr rD``."""
    return _spr(rd, _CTR, 339)


def mtctr(rs: int) -> int:
    """Encode ``mtctr rS``."""
    return _spr(rs, _CTR, 467)


def mfxer(rd: int) -> int:
    """Encode ``mfxer rD``."""
    return _spr(rd, _XER, 339)


def mtxer(rs: int) -> int:
    """Encode ``mtxer rS``."""
    return _spr(rs, _XER, 467)


def mfspr(rd: int, number: int) -> int:
    """Encode ``mfspr rD,SPR``."""
    return _spr(rd, number, 339)


def mtspr(number: int, rs: int) -> int:
    """Encode ``mtspr SPR,rS``."""
    return _spr(rs, number, 467)


def mfmsr(rd: int) -> int:
    """Encode ``mfmsr rD``."""
    _gpr(rd)
    return 31 << 26 | rd << 21 | 83 << 1


def mfcr(rd: int) -> int:
    """Encode ``mfcr rD``."""
    return _x_form(rd, 0, 0, 19)


def mtcrf(fields: int, rs: int) -> int:
    """Encode ``mtcrf CRM,rS``; bit 0x80 of ``fields`` is cr0, 0x01 is cr7."""
    if not 0 <= fields <= 0xFF:
        raise EncodeError(f"no CR field mask 0x{fields:x}")
    _gpr(rs)
    return 31 << 26 | rs << 21 | fields << 12 | 144 << 1


def mcrf(to: int, source: int) -> int:
    """Encode ``mcrf crD,crS``."""
    if not (0 <= to < 8 and 0 <= source < 8):
        raise EncodeError(f"no CR field cr{to if not 0 <= to < 8 else source}")
    return 19 << 26 | to << 23 | source << 18


def bclr(bo: int, bi: int) -> int:
    """Encode ``bclr BO,BI``."""
    if not (0 <= bo < 32 and 0 <= bi < 32):
        raise EncodeError(f"no branch condition BO={bo} BI={bi}")
    return 19 << 26 | bo << 21 | bi << 16 | 16 << 1


def bcctr(bo: int, bi: int) -> int:
    """Encode ``bcctr BO,BI``; raise `EncodeError` for forms that decrement CTR (invalid, PEM 8.2)."""
    if not bo & 4:
        raise EncodeError(f"bcctr cannot decrement CTR (BO={bo})")
    return bclr(bo, bi) ^ 16 << 1 | 528 << 1


def nop() -> int:
    """Encode ``nop``."""
    return ori(0, 0, 0)


def blr() -> int:
    """Encode ``blr``."""
    return 0x4E80_0020


def rfi() -> int:
    """Encode ``rfi``."""
    return 0x4C00_0064


def bctr() -> int:
    """Encode ``bctr``."""
    return 0x4E80_0420


def bctrl() -> int:
    """Encode ``bctrl``."""
    return 0x4E80_0421
