"""The trap hook's machine code (patch/trap.py) on the 6xx, where the program exception enters in real mode.

It keeps three registers and CR in words behind its code. Exceptions are off from the vector to its
``rfi``, so nothing else can use them meanwhile; a second CPU would need words of its own.
"""

from __future__ import annotations

from kgdbpatch.cpu.hook import onward
from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.patch.trap import HOOK_SIZE, Hook

__all__ = ["hook_words"]

_SRR0, _SRR1 = 26, 27
_WORK = (10, 11, 12)
_CODE_WORDS = 31
_NOP = 0x6000_0000
_LOW = 0x8000  # real-mode addresses that a displacement alone reaches


def hook_words(hook: Hook) -> dict[int, int]:
    """Return virtual address ─► word of the hook's code, as `kgdbpatch.component.ports.Cpu.hook_words`."""
    return {hook.at + 4 * index: word for index, word in enumerate(_code(hook))}


def _code(hook: Hook) -> list[int]:
    start = hook.at - hook.shift
    if not 0 <= start < _LOW - HOOK_SIZE:
        raise Refused("trap", f"the hook at 0x{hook.at:08x} lies too high in memory for real mode")
    keep = start + 4 * _CODE_WORDS
    key, entry, pointer = 11, 10, 12
    restore = [
        encode.lwz(entry, keep + 4 * len(_WORK), 0),
        encode.mtcrf(0xFF, entry),
        *(encode.lwz(register, keep + 4 * n, 0) for n, register in enumerate(_WORK)),
    ]
    words = [
        *(encode.stw(register, keep + 4 * n, 0) for n, register in enumerate(_WORK)),
        encode.mfcr(entry),
        encode.stw(entry, keep + 4 * len(_WORK), 0),
        encode.mfspr(key, _SRR0),
        encode.mfspr(entry, _SRR1),
        encode.rlwimi(key, entry, 18, 31, 31),  # user mode (PR): no site has bit 31
        encode.lis(pointer, hook.table >> 16),
        encode.rlwimi(pointer, key, 1, 16, 28),
    ]
    loop = len(words)
    on = onward(hook, start + 4 * (loop + 6 + len(restore)), hook.vector - hook.shift)
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
        encode.lwz(pointer, 4, pointer),
        encode.mtspr(_SRR0, pointer),
        *restore,
        encode.rfi(),
    ]
    assert len(words) <= _CODE_WORDS
    return words + [_NOP] * (_CODE_WORDS - len(words))
