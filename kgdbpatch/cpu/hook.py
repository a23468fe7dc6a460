"""What the families' hooks of traps (patch/trap.py) have in common."""

from __future__ import annotations

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.displace import plain
from kgdbpatch.patch.trap import Hook

__all__ = ["onward"]


def onward(hook: Hook, at: int, vector: int) -> list[int]:
    """Return what goes on in the kernel's own handler: its first instruction, and on behind it.

    ``at`` is where these words stand; it and ``vector`` are addresses as the hook runs.
    """
    first = decode(hook.original, vector)
    if plain(first):
        return [hook.original, encode.b(at + 4, vector + 4)]
    if first.kind is Kind.JUMP and first.target is not None:
        return [encode.b(at, first.target)]
    raise Refused(
        "trap", f"'{first.text}', the first word of the exception vector, cannot be moved", hook.vector
    )
