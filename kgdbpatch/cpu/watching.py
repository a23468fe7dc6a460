"""The machine code that takes traps out as they are hit (patch/watch.py), in real mode: 6xx.

It begins at the second word of the program exception's vector, where the exception's registers are as the
interrupted code left them but for an SPRG that the first word has written. Exceptions are off meanwhile, so
nothing else can use the words in which three registers, CR and CTR are kept. What is no trap of ours goes on
in the kernel's handler. The order dcbst, sync, icbi, sync, isync is that of PEM 5.1.5.2.
"""

from __future__ import annotations

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.patch.watch import (
    AREA,
    AREA_OFFSET,
    CR_OFFSET,
    CTR_OFFSET,
    TAIL_WORDS,
    TRAP_WORD,
    Code,
    WatchEntry,
)

__all__ = ["real_mode_code"]

_SRR0, _SRR1 = 26, 27
_KEEP = 8  # the tail's words from which on three registers are kept
_TRAPPED, _PROBLEM, _TRANSLATED = 0x2, 0x4000, 0x20  # SRR1: upper half, then PR and IR
_LOW = 0x8000  # real-mode addresses that a displacement alone reaches


def real_mode_code(site: WatchEntry, tail: int, body: int) -> Code:
    """Return the code in a vector's ``tail`` and in the ``body``, both physical addresses."""
    if not 0 <= tail < _LOW - 4 * TAIL_WORDS:
        raise Refused("trap", f"the tail at 0x{tail:08x} lies too high in memory for real mode")
    keep = [tail + 4 * (_KEEP + index) for index in range(3)]
    first = [
        *(encode.stw(10 + index, at, 0) for index, at in enumerate(keep)),
        encode.mfctr(10),
        *_address(body),
        encode.mtctr(12),
        encode.bctr(),
    ]
    assert len(first) == _KEEP
    back = [
        *_address(body),
        encode.lwz(10, CTR_OFFSET, 12),
        encode.mtctr(10),
        encode.lwz(10, CR_OFFSET, 12),
        encode.mtcrf(0xFF, 10),
        *(encode.lwz(10 + index, at, 0) for index, at in enumerate(keep)),
    ]
    tests = [  # each goes on in the kernel's handler when its condition (BO, BI) holds
        ([encode.stw(10, CTR_OFFSET, 12), encode.mfcr(11), encode.stw(11, CR_OFFSET, 12)], None),
        ([encode.mfspr(11, _SRR1), _d(29, 11, 10, _TRAPPED)], (12, 2)),
        ([_d(28, 11, 10, _PROBLEM)], (4, 2)),
        ([_d(28, 11, 10, _TRANSLATED)], (12, 2)),
        (
            [
                encode.mfspr(11, _SRR0),
                encode.lwz(10, _at("base"), 12),
                _x(11, 10, 11, 40),  # subf
                encode.lwz(10, _at("size"), 12),
                encode.cmplw(11, 10),
            ],
            (4, 0),  # bge
        ),
        ([encode.lwz(10, _at("copy"), 12), _x(10, 10, 11, 23), encode.cmpwi(10, 0)], (12, 2)),  # lwzx
        (
            [
                encode.lwz(12, _at("text"), 12),
                _x(11, 11, 12, 266),  # add
                encode.lwz(12, 0, 11),
                _d(27, 12, 12, TRAP_WORD >> 16),  # xoris
                _d(10, 0, 12, TRAP_WORD & 0xFFFF),  # cmplwi
            ],
            None,
        ),
    ]
    sync, isync = _x(0, 0, 0, 598), 0x4C00_012C
    own = [encode.stw(10, 0, 11), _x(0, 0, 11, 54), sync, _x(0, 0, 11, 982), sync, isync]  # dcbst, icbi
    out = encode.bc(4, 2, 0, 4 * (1 + len(own)))  # one that went out while it was on its way: just go on
    hit = [out, *own, *back, encode.rfi()]
    length = sum(len(words) + (condition is not None) for words, condition in tests) + len(hit)
    words = list[int]()
    for own, condition in tests:
        words += own
        if condition is not None:
            words.append(encode.bc(*condition, 4 * len(words), 4 * length))
    words += hit
    assert len(words) == length
    words += [*back, site.original, encode.ba(site.at - site.shift + 4)]
    splice = [0, 0, 0, encode.nop()]  # what is kept; the last word tells that the tail is taken
    return Code([*first, *splice], words)


def _address(body: int) -> list[int]:
    return [encode.lis(12, body >> 16), encode.ori(12, 12, body & 0xFFFF)]


def _at(name: str) -> int:
    fields = AREA.fields
    assert fields is not None
    return AREA_OFFSET + int(fields[name][1])


def _d(opcode: int, source: int, target: int, immediate: int) -> int:
    """Encode a logical instruction with an immediate, or ``cmplwi`` (source 0: cr0)."""
    return opcode << 26 | source << 21 | target << 16 | immediate


def _x(target: int, a: int, b: int, extended: int) -> int:
    return 31 << 26 | target << 21 | a << 16 | b << 11 | extended << 1
