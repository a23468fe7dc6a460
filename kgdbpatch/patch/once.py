"""Let a thread that is inside a payload pass its site without running the payload once more.

A payload that calls the kernel may come back to its own site. So the body notes in the patch's own memory,
while the payload runs, the stack pointer of who is inside. Who finds one of its own stack there, above its
own stack pointer, is counted as skipped and goes on behind the payload.

An entry is claimed by ``lwarx`` and ``stwcx.``; only code on the same stack looks at it again. An interrupt
on a thread's own stack counts as the thread; one with a stack of its own does not. An entry not above the
stack pointer was left by a payload that never came back: it is taken over. A stack's entry is one of the
`_WAYS` words of the bucket that its address names; where others have them all, the payload is skipped and
counted. Nothing ever waits.
"""

from __future__ import annotations

from kgdbpatch.isa import encode
from kgdbpatch.patch.count import counting

__all__ = ["AREA", "area_of", "claim", "release"]

_WAYS, _BUCKETS = 4, 16
_SET = 4 * _WAYS * _BUCKETS  # bytes, a power of two; the set is aligned to it
AREA = 2 * _SET  # bytes behind a body: up to the set, the set, the counter of what was skipped

_SLOT, _SEEN, _TEST = 11, 12, 0  # registers: the entry's address, what it holds, a scratch


def area_of(area: int) -> tuple[int, int]:
    """Return the addresses of the set and of the skip counter in an area at a multiple of 16."""
    return -(-area // _SET) * _SET, area + AREA - 4


def claim(area: int, stack: int, slot: int, leave: int) -> list[int]:
    """Return words that note the thread as inside, or count it as skipped and go to word ``leave`` of them.

    ``stack`` is the size of a kernel stack, a power of two; ``slot`` the offset from r1 of a word that
    `release` needs. They change r0, r11, r12 and CR0.
    """
    held, skipped = area_of(area)
    shift = stack.bit_length() - 1
    words = [
        encode.lis(_SLOT, held >> 16),
        encode.ori(_SLOT, _SLOT, held & 0xFFFF),
        # the stack's number, of so many bits, makes the bucket's offset
        encode.rlwimi(_SLOT, 1, (4 - shift) % 32, 24, 27),
    ]
    found = 3 + 4 * _WAYS + 3 * _WAYS
    for way in range(_WAYS):
        at = len(words)
        words += [
            encode.lwzu(_SEEN, 4, _SLOT) if way else encode.lwz(_SEEN, 0, _SLOT),
            encode.xor(_TEST, _SEEN, 1),
            encode.rlwinm(_TEST, _TEST, 0, 0, 31 - shift, record=True),
            _if(True, at + 3, found),
        ]
    own = found + 2
    for way in range(_WAYS):
        if way:
            words.append(encode.lwzu(_SEEN, -4, _SLOT))
        words += [encode.cmpwi(_SEEN, 0), _if(True, len(words) + 1, own)]
    skip = own + 6
    words.append(_go(len(words), skip))
    assert len(words) == found
    words += [encode.cmplw(_SEEN, 1), encode.bc(12, 1, 4 * len(words) + 4, 4 * skip)]  # bgt
    assert len(words) == own
    counted = counting(skipped, (_SEEN, _SLOT))
    inside = skip + len(counted) + 1
    words += [
        encode.lwarx(_TEST, 0, _SLOT),
        encode.cmplw(_TEST, _SEEN),
        _if(False, own + 2, 0),
        encode.stwcx(1, 0, _SLOT),
        _if(True, own + 4, inside),
        _go(own + 5, 0),
    ]
    assert len(words) == skip
    words += [*counted, _go(skip + len(counted), leave)]
    return [*words, encode.stw(_SLOT, slot, 1)]


def release(slot: int) -> list[int]:
    """Return words that note the thread as outside; they change r11 and r12."""
    return [encode.lwz(_SLOT, slot, 1), encode.addi(_SEEN, 0, 0), encode.stw(_SEEN, 0, _SLOT)]


def _if(equal: bool, at: int, to: int) -> int:
    return encode.bc(12 if equal else 4, 2, 4 * at, 4 * to)


def _go(at: int, to: int) -> int:
    return encode.b(4 * at, 4 * to)
