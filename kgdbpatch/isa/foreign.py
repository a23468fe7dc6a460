"""Load the instructions of other PowerPC models, known by name only (``foreign.txt``: mask match mnemonic).

A 7xx traps on them, so one is taken to read everything and write nothing; but where control goes is known:
code behind the ``rfci`` of Book E is not reached.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from kgdbpatch.isa.registers import ALL
from kgdbpatch.isa.table import Kind, Row

__all__ = ["foreign_rows"]


# Returns from interrupts: of Book E, of 64-bit models, from events.
_RETURNS = ("rfci", "rfdi", "rfmci", "rfgi", "rfid", "hrfid", "urfid", "rfscv", "rfebb")
_KINDS = dict.fromkeys(_RETURNS, Kind.RFI) | {"scv": Kind.SYSCALL}

# Branches to TAR (POWER8): always, on a condition, with a link.
_BRANCHES = (
    Row("bctar", 0xFE80E7FF, 0x4E800460, Kind.INDIRECT, uses=ALL),
    Row("bctar", 0xFC00E7FF, 0x4C000460, Kind.INDIRECT, conditional=True, uses=ALL),
    Row("bctarl", 0xFC00E7FF, 0x4C000461, Kind.CALL, conditional=True, uses=ALL),
)


@lru_cache(maxsize=1)
def foreign_rows() -> tuple[Row, ...]:
    """Return the rows of foreign instructions, the more special before the more general."""
    found = list(_BRANCHES)
    for line in Path(__file__).with_name("foreign.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            bits, match, mnemonic = line.split()
            kind = _KINDS.get(mnemonic, Kind.FOREIGN)
            found.append(Row(mnemonic, int(bits, 16), int(match, 16), kind, uses=ALL))
    return tuple(found)
