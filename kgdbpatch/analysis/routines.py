"""Tell which functions are one routine: assembler code has symbols inside of what runs as one piece."""

from __future__ import annotations

from functools import lru_cache

from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.isa.fields import Words

__all__ = ["runs_on"]

_NOP = encode.nop()
_ALWAYS = 31  # TO of a trap


def runs_on(words: Words) -> bool:
    """Tell whether control may run past the last of a function's words, into what lies behind.

    Not behind a call: one at the end does not come back, or it comes back to what any function may be.
    """
    return next((_goes_on(word) for word in reversed(words.tolist()) if word != _NOP), True)


@lru_cache(maxsize=1 << 12)
def _goes_on(word: int) -> bool:
    last = decode(word)
    if not last.known or last.kind is Kind.CALL:
        return False
    if last.kind is Kind.TRAP:
        return word >> 21 & _ALWAYS != _ALWAYS
    return last.conditional or not last.kind.transfers
