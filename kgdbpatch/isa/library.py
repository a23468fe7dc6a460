"""Write the instructions of the rest of the family (64-bit, POWER, VSX) as capstone does.

None of the models of `kgdbpatch.isa.models` has them, so a kernel holds them only by mistake or for
a CPU that it does not run on. They are shown where capstone and the table of names agree.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

__all__ = ["library_text"]


@lru_cache(maxsize=1)
def _disassembler() -> Any:
    import capstone  # needed only to print

    return capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | capstone.CS_MODE_BIG_ENDIAN)


def library_text(mnemonic: str, word: int, address: int) -> str | None:
    """Return the text of a word that the table calls ``mnemonic``, None where capstone calls it otherwise.

    >>> library_text("ld", 0xE8610008, 0)
    'ld r3,8(r1)'
    """
    for _, _, name, operands in _disassembler().disasm_lite(word.to_bytes(4, "big"), address, 1):
        if name == mnemonic:
            return f"{name} {operands.replace(', ', ',')}".rstrip()
    return None
