"""The trap hook's machine code (patch/trap.py) where the program exception enters in real mode: 6xx, 405.

It keeps three registers and CR in words behind its code. Exceptions are off from the vector to its
``rfi``, so nothing else can use them meanwhile; a second CPU would need words of its own.
"""

from __future__ import annotations

from kgdbpatch.cpu.hook import lookup
from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.patch.trap import HOOK_SIZE, Hook

__all__ = ["hook_words"]

_KEY, _ENTRY, _POINTER = 11, 10, 12
_WORK = (_ENTRY, _KEY, _POINTER)
_CODE_WORDS = 31
_LOW = 0x8000  # real-mode addresses that a displacement alone reaches


def hook_words(hook: Hook) -> dict[int, int]:
    """Return virtual address ─► word of the hook's code, as `kgdbpatch.component.ports.Cpu.hook_words`."""
    start = hook.at - hook.shift
    if not 0 <= start < _LOW - HOOK_SIZE:
        raise Refused("trap", f"the hook at 0x{hook.at:08x} lies too high in memory for real mode")
    keep = start + 4 * _CODE_WORDS
    keep_cr = keep + 4 * len(_WORK)
    save = [
        *(encode.stw(register, keep + 4 * n, 0) for n, register in enumerate(_WORK)),
        encode.mfcr(_ENTRY),
        encode.stw(_ENTRY, keep_cr, 0),
    ]
    restore = [
        encode.lwz(_ENTRY, keep_cr, 0),
        encode.mtcrf(0xFF, _ENTRY),
        *(encode.lwz(register, keep + 4 * n, 0) for n, register in enumerate(_WORK)),
    ]
    return lookup(hook, start, save, restore, (_KEY, _ENTRY, _POINTER), _CODE_WORDS)
