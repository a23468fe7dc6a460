"""Find the AltiVec instructions among words, for CPUs that have them: the 74xx.

On any other CPU the same words are something else (SPE, multiply-accumulate) or nothing, so `match` asks for
them only where the model says that AltiVec is there. Their forms are numbers behind all others.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa import rows_altivec
from kgdbpatch.isa.table import Row, parsed

__all__ = ["MODEL", "ROWS", "has_altivec", "row_numbers", "row_of"]

MODEL = "7450"  # of `kgdbpatch.isa.models`
ROWS: tuple[Row, ...] = tuple(parsed(rows_altivec.ROWS))

_LOW = 0x7FF
_PRIMARY = (4, 31)


def has_altivec(model: str) -> bool:
    """Tell whether a model has AltiVec."""
    return model == MODEL


@lru_cache(maxsize=1)
def _candidates() -> dict[int, tuple[int, ...]]:
    """Return the rows that a word may be of, by its primary opcode and its bits 21-31."""
    found: dict[int, list[int]] = {}
    for number, row in enumerate(ROWS):
        free = ~row.mask & _LOW
        low = bits = row.match & _LOW
        while True:  # every value of the free bits
            found.setdefault(row.match >> 26 << 11 | low, []).append(number)
            if low == bits | free:
                break
            low = bits | (low - bits | ~free) + 1 & free
    return {key: tuple(numbers) for key, numbers in found.items()}


def row_of(word: int) -> int | None:
    """Return the number of the row of `ROWS` that a word is of, or None."""
    for number in _candidates().get(word >> 26 << 11 | word & _LOW, ()):
        row = ROWS[number]
        if word & row.mask == row.match:
            return number
    return None


def row_numbers(words: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int16]]:
    """Return which of the words are of AltiVec, and the row of `ROWS` of each of these."""
    primary = words >> np.uint32(26)
    likely = np.flatnonzero((primary == _PRIMARY[0]) | (primary == _PRIMARY[1]))
    keys = words[likely] >> np.uint32(26) << np.uint32(11) | words[likely] & np.uint32(_LOW)
    likely = likely[np.isin(keys, np.fromiter(_candidates(), np.uint32))]
    numbers = [row_of(word) for word in words[likely].tolist()]
    of_ours = np.array([number is not None for number in numbers], np.bool_)
    return likely[of_ours], np.array([number for number in numbers if number is not None], np.int16)
