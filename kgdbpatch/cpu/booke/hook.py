"""The trap hook's machine code (patch/trap.py) on the e500, where exceptions enter translated.

The entries that map the kernel and the arena are wired, so the hook runs without a TLB miss. No address that
takes no register is to be had there: the first register is kept in an SPRG that the kernel's own handler
writes before it reads it, so that nothing is lost. The others are kept in the arena, by the number of the CPU
(PIR). A critical interrupt within the hook whose handler itself meets such a trap would lose them.
"""

from __future__ import annotations

from kgdbpatch.component.layout import HOOK_OFFSET, STUB_OFFSET, TRAPS_OFFSET
from kgdbpatch.cpu.hook import lookup
from kgdbpatch.isa import encode
from kgdbpatch.patch.trap import Hook

__all__ = ["SIZE", "hook_words"]

_PIR = 286
_CPUS, _KEPT = 32, 16  # how many there may be; bytes that each has
_CODE_WORDS = 37
SIZE = 4 * _CODE_WORDS

assert HOOK_OFFSET + _CPUS * _KEPT <= STUB_OFFSET


def hook_words(hook: Hook) -> dict[int, int]:
    """Return virtual address ─► word of the hook's code, as `kgdbpatch.component.ports.Cpu.hook_words`."""
    base, key, pointer, entry = 12, 11, 10, 9
    kept = [(register, HOOK_OFFSET + 4 * n) for n, register in enumerate((key, pointer, entry))]
    kept_cr = HOOK_OFFSET + 4 * len(kept)
    save = [
        encode.mtspr(hook.scratch, base),
        encode.mfspr(base, _PIR),
        encode.rlwinm(base, base, 4, 23, 27),
        encode.addis(base, base, hook.table - TRAPS_OFFSET >> 16),
        *(encode.stw(register, at, base) for register, at in kept),
        encode.mfcr(entry),
        encode.stw(entry, kept_cr, base),
    ]
    restore = [
        encode.lwz(entry, kept_cr, base),
        encode.mtcrf(0xFF, entry),
        *(encode.lwz(register, at, base) for register, at in kept),
        encode.mfspr(base, hook.scratch),
    ]
    return lookup(hook, hook.at, save, restore, (key, entry, pointer), _CODE_WORDS)
