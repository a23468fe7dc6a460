"""Watch whether instructions are ever executed: a trap at each, which the guest takes out when it is hit.

All of it is one patch, at the second word of the program exception's vector. Its body is code that looks the
trapped address up in a copy of the text, puts the word that was there back, and lets the kernel go on at it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.displace import plain
from kgdbpatch.patch.planned import Plan

__all__ = [
    "AREA",
    "AREA_OFFSET",
    "CODE_SIZE",
    "COPY_OFFSET",
    "COUNTS",
    "CR_OFFSET",
    "CTR_OFFSET",
    "LIVE_OFFSET",
    "NO_WATCH",
    "TAIL_WORDS",
    "TRAP_WORD",
    "WATCH",
    "Begun",
    "Code",
    "WatchEntry",
    "area_of",
    "entry_at",
    "watch_plan",
]

NO_WATCH = "no code for this CPU takes traps out as they are hit: count instead (--exact)"
_SPRGS = range(272, 280)

WATCH = (2, 0)  # the guard of this patch, which has none: that tells it from others
COUNTS = (3, 0)  # the guard of a patch that counts a block, one of many that belong together
TRAP_WORD = encode.twi(31, 15, 0x6376)  # unlike compilers' it names r15, unlike other patches' nothing above
TAIL_WORDS = 12  # of the code that leads from the vector to the body

CODE_SIZE = 0x100  # bytes of the body that are its code, at most
AREA_OFFSET = CODE_SIZE
CR_OFFSET, CTR_OFFSET, LIVE_OFFSET = 0x180, 0x184, 0x188
COPY_OFFSET = 0x1A0
AREA = np.dtype(  # behind the code; addresses but for ``base`` are physical
    [
        *((name, ">u4") for name in ("base", "size", "text", "copy", "tail")),
        ("tail_code", ">u4", TAIL_WORDS),
    ]
)
assert AREA_OFFSET + AREA.itemsize <= CR_OFFSET


class Begun:
    """What the word at `LIVE_OFFSET` says: whether all traps are in."""

    NO, YES = 0, 1


class Code(NamedTuple):
    """What leads from the vector to the body, and the body's own code; words."""

    tail: list[int]
    body: list[int]


class WatchEntry(NamedTuple):
    """Where the code is entered: the vector's second word ``at`` (virtual), and that word."""

    at: int
    original: int
    spr: int  # that the first word writes
    shift: int  # what physical addresses are less than virtual ones


def entry_at(vector: int, shift: int, first: int, second: int) -> WatchEntry:
    """Return where the program exception's vector, which begins with two words, can be entered.

    Raises `Refused` (rule ``trap``) where the first does more than save a register in an SPRG, or the second
    cannot be moved.
    """
    spr = first >> 16 & 31 | (first >> 11 & 31) << 5
    if first & 0xFC00_07FF != encode.mtspr(0, 0) or spr not in _SPRGS:
        text = decode(first, vector).text
        raise Refused("trap", f"'{text}', with which the program exception begins, saves no register", vector)
    moved = decode(second, vector + 4)
    if not plain(moved) or moved.kind is Kind.TRAP:
        raise Refused("trap", f"'{moved.text}' of the exception vector cannot be moved", vector + 4)
    return WatchEntry(vector + 4, second, spr, shift)


def area_of(site: WatchEntry, base: int, size: int, tail: int, copy: int, code: Code) -> np.void:
    """Return what the code knows of the text of ``size`` bytes at ``base``; ``copy`` is physical."""
    area = np.zeros(1, AREA)
    area["base"], area["size"], area["text"] = base, size, base - site.shift
    area["copy"], area["tail"], area["tail_code"] = copy, tail, code.tail
    found: np.void = area[0]
    return found


def watch_plan(entry: WatchEntry, body: int, code: Code, area: np.void, copy: bytes) -> Plan:
    """Plan the patch with the body at ``body``; ``copy`` are the words of the watched addresses.

    It is as long as the text, with 0 for what is not watched.
    """
    head = b"".join(word.to_bytes(4, "big") for word in code.body)
    assert len(head) <= CODE_SIZE
    constant = head.ljust(AREA_OFFSET, b"\0") + area.tobytes()
    return Plan(
        site=entry.at,
        original=entry.original,
        splice=encode.b(entry.at, int(area["tail"]) + entry.shift),
        body=body,
        code=constant.ljust(COPY_OFFSET, b"\0") + copy,
        constant_size=len(constant),
        body_words=len(code.body),
        saved=(),
        springboard=None,
        springboard_code=b"",
        guard=WATCH,
        counted=False,
        tail=0,
        onward=0,
    )
