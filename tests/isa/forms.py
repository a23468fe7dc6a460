"""Words of the forms that one model has besides the others', and words that nearly are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.isa.decode import decode, decode_array
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.match import extension_of
from kgdbpatch.isa.registers import FPRS, SPE, VECTORS
from kgdbpatch.isa.table import Row

__all__ = ["Forms"]


class Forms:
    """The ``rows`` of a model; ``primary`` are the primary opcodes that they have."""

    def __init__(self, model: str, rows: Sequence[Row], primary: Sequence[int], beside: int = 40) -> None:
        self._model, self._rows, self._primary, self._beside = model, rows, primary, beside

    def of_rows(self, seed: int, each: int) -> tuple[list[str], Words]:
        """Return the mnemonics and words of all forms, operands random."""
        random = np.random.default_rng(seed)
        table = np.array([(row.mask, row.match) for row in self._rows], np.uint32).repeat(each, axis=0)
        free = random.integers(0, 1 << 32, len(table), dtype=np.uint32) & ~table[:, 0]
        return [row.mnemonic for row in self._rows for _ in range(each)], table[:, 1] | free

    def beside_rows(self, seed: int) -> Words:
        """Return words of the forms with a bit flipped, and any words of their primary opcodes."""
        random = np.random.default_rng(seed)
        _, words = self.of_rows(seed, self._beside)
        flipped = words ^ np.uint32(1) << random.integers(0, 32, len(words)).astype(np.uint32)
        anything = random.integers(0, 1 << 26, 40_000, dtype=np.uint32)
        primary = random.choice(np.array(self._primary, np.uint32), len(anything)) << np.uint32(26)
        return np.concatenate([flipped, anything | primary])

    def unknown_elsewhere(self, seed: int) -> None:
        """Assert that on CPUs of other models its words are none of its forms."""
        for name, word in zip(*self.of_rows(seed, 4), strict=True):
            for model in ("", "7450", "e500"):
                assert extension_of(decode(int(word), 0, model).form) != self._model, name

    def decoded_alike(self, seed: int) -> None:
        """Assert that arrays are decoded as single words are."""
        words = np.concatenate([self.of_rows(seed, 4)[1], self.beside_rows(seed + 1)[::50]])
        decoded = decode_array(words, self._model)
        defs, uses = regset.defs(decoded).tolist(), regset.uses(decoded).tolist()
        for n, word in enumerate(words.tolist()):
            one = decode(word, 0, self._model)
            assert (one.form, one.kind) == (decoded.form[n], decoded.kind[n])
            assert regset.to_mask(defs[n]) == one.defs & ~(FPRS | VECTORS | SPE)
            assert regset.to_mask(uses[n]) == one.uses & ~(FPRS | VECTORS | SPE)
