"""What the families' hooks of traps (patch/trap.py) have in common."""

from __future__ import annotations

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.displace import plain
from kgdbpatch.patch.trap import Hook

__all__ = ["lookup"]

_SRR0, _SRR1 = 26, 27
_NOP = 0x6000_0000


def lookup(
    hook: Hook, at: int, save: list[int], restore: list[int], registers: tuple[int, int, int], size: int
) -> dict[int, int]:
    """Return virtual address ─► word of a hook's code, ``size`` words of it (`Cpu.hook_words`).

    It looks SRR0 up in the hash table of trapped sites and puts the body's address there; what is no site of
    ours goes on in the kernel's own handler. ``at`` is the code's address as it runs. Three ``registers``
    and CR may be changed between the words ``save`` and ``restore``.
    """
    key, entry, pointer = registers
    words = [
        *save,
        encode.mfspr(key, _SRR0),
        encode.mfspr(entry, _SRR1),
        encode.rlwimi(key, entry, 18, 31, 31),  # user mode (PR): no site has bit 31
        encode.lis(pointer, hook.table >> 16),
        encode.rlwimi(pointer, key, 1, 16, 28),
    ]
    loop = len(words)
    vector = hook.vector + at - hook.at
    on = _onward(hook, at + 4 * (loop + 6 + len(restore)), vector)
    hit = loop + 6 + len(restore) + len(on)
    words += [
        encode.lwz(entry, 0, pointer),
        encode.cmplw(entry, key),
        encode.bc(12, 2, 4 * (loop + 2), 4 * hit),  # beq
        encode.addi(pointer, pointer, 8),
        encode.cmpwi(entry, 0),
        encode.bc(4, 2, 4 * (loop + 5), 4 * loop),  # bne
        *restore,
        *on,
        encode.lwz(entry, 4, pointer),
        encode.mtspr(_SRR0, entry),
        *restore,
        encode.rfi(),
    ]
    assert len(words) <= size
    return {hook.at + 4 * n: word for n, word in enumerate(words + [_NOP] * (size - len(words)))}


def _onward(hook: Hook, at: int, vector: int) -> list[int]:
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
