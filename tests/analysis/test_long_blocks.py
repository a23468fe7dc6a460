"""Blocks of any length are summed up as one instruction after the other would have it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.effects import blockwise, words_of
from kgdbpatch.analysis.program import ImplicitEdges, Program

_BLR = 0x4E80_0020


def _straight(rng: random.Random, count: int) -> list[int]:
    """Return ``count`` instructions of a block: sums, loads and stores of any registers, and blr."""
    words = []
    for _ in range(count - 1):
        d, a, b = (rng.randrange(32) for _ in range(3))
        add, load, store = 31 << 26 | b << 11 | 266 << 1, 32 << 26 | 8, 36 << 26 | 8
        words.append(rng.choice((add, load, store)) | d << 21 | a << 16)
    return [*words, _BLR]


@pytest.mark.parametrize("exceptional", [{}, None])
def test_blocks_of_any_length(exceptional: dict[int, tuple[int, ...]] | None) -> None:
    rng = random.Random(11)
    lengths = [1, 23, 24, 25, 47, 48, 49, 2, 700, *(rng.randrange(1, 120) for _ in range(40))]
    code = [word for length in lengths for word in _straight(rng, length)]
    functions, at = [], 0x1000
    for length in lengths:
        functions.append((at, 4 * length))
        at += 4 * length
    program = Program([(0x1000, np.array(code, dtype=np.uint32))], functions)
    blocks = Blocks(program, ImplicitEdges(exceptional))
    words = words_of(program.decoded)
    transfer = blockwise(blocks, words)
    assert (blocks.last - blocks.first + 1).tolist() == lengths
    for block, (first, last) in enumerate(zip(blocks.first.tolist(), blocks.last.tolist(), strict=True)):
        kill = uses = faults = 0
        for word in range(last, first - 1, -1):
            defs = int(words.defs[word])
            kill, uses, faults = kill | defs, uses & ~defs | int(words.uses[word]), faults & ~defs
            if code[word] >> 26 in (32, 36) and exceptional is None:
                faults = (1 << 64) - 1
        assert int(transfer.kill[block]) == kill
        assert int(transfer.uses[block]) == uses
        assert int(transfer.faults[block]) & kill == faults & kill
