"""Tell which functions are one routine: assembler code has symbols inside of what runs as one piece."""

from __future__ import annotations

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
    used = [word for word in words.tolist() if word != _NOP]
    if not used:
        return True
    last = decode(used[-1])
    if not last.known or last.kind is Kind.CALL:
        return False
    if last.kind is Kind.TRAP:
        return last.word >> 21 & _ALWAYS != _ALWAYS
    return last.conditional or not last.kind.transfers
