"""Find the instructions that one model has besides those of the plain table, or otherwise.

On any other CPU the same words are something else or nothing, so `match` asks for them only where the model
says that they are there. Their forms are numbers behind all others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.table import Row, listed

__all__ = ["Extension"]

_LOW = 0x7FF


class Extension:
    """The rows of a ``listing`` (see `table`) for a ``model`` of `kgdbpatch.isa.models`."""

    def __init__(self, model: str, listing: str) -> None:
        self.model = model
        self.rows: tuple[Row, ...] = tuple(listed(listing))

    @cached_property
    def _candidates(self) -> dict[int, tuple[int, ...]]:
        """The rows that a word may be of, by its primary opcode and its bits 21-31."""
        found: dict[int, list[int]] = {}
        for number, row in enumerate(self.rows):
            free = ~row.mask & _LOW
            low = bits = row.match & _LOW
            while True:  # every value of the free bits
                found.setdefault(row.match >> 26 << 11 | low, []).append(number)
                if low == bits | free:
                    break
                low = bits | (low - bits | ~free) + 1 & free
        return {key: tuple(numbers) for key, numbers in found.items()}

    @cached_property
    def _primary(self) -> npt.NDArray[np.bool_]:
        """Which primary opcodes the rows have."""
        found = np.zeros(64, np.bool_)
        found[[row.match >> 26 for row in self.rows]] = True
        return found

    def row_of(self, word: int) -> int | None:
        """Return the number of the row that a word is of, or None."""
        for number in self._candidates.get(word >> 26 << 11 | word & _LOW, ()):
            row = self.rows[number]
            if word & row.mask == row.match:
                return number
        return None

    def row_numbers(
        self, words: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int16]]:
        """Return which of the words are of these rows, and the row of each of those."""
        likely = np.flatnonzero(self._primary.take(words >> np.uint32(26)))
        keys = words[likely] >> np.uint32(26) << np.uint32(11) | words[likely] & np.uint32(_LOW)
        likely = likely[np.isin(keys, np.fromiter(self._candidates, np.uint32))]
        numbers = [self.row_of(word) for word in words[likely].tolist()]
        of_ours = np.array([number is not None for number in numbers], np.bool_)
        return likely[of_ours], np.array([number for number in numbers if number is not None], np.int16)
