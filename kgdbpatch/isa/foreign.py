"""Load the instructions of other PowerPC models, which are known by name only.

``foreign.txt`` holds ``mask match mnemonic`` lines for whatever other processors of the family
(POWER, 4xx, e500, AltiVec, VSX, 64-bit) define where a 7xx has nothing. On a 7xx such a word
traps, so what it reads and writes is taken as unknown: it reads everything and writes nothing.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from kgdbpatch.isa.registers import ALL
from kgdbpatch.isa.table import Kind, Row

__all__ = ["foreign_rows"]


@lru_cache(maxsize=1)
def foreign_rows() -> tuple[Row, ...]:
    """Return the rows of foreign instructions, the more special before the more general."""
    found = []
    for line in files("kgdbpatch.isa").joinpath("foreign.txt").read_text("ascii").splitlines():
        if not line.startswith("#"):
            bits, match, mnemonic = line.split()
            found.append(Row(mnemonic, int(bits, 16), int(match, 16), Kind.FOREIGN, uses=ALL))
    return tuple(found)
