"""What arrays of words read and change, against the same words decoded one by one.

Those are judged by the CPU (``tests/isa``).
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.analysis import regset
from kgdbpatch.isa.decode import decode, decode_array
from kgdbpatch.isa.match import rows
from kgdbpatch.isa.registers import ALL, FPRS
from kgdbpatch.kernel import catalog


def _compare(words: list[int]) -> None:
    decoded = decode_array(np.array(words, dtype=np.uint32))
    defs, uses = regset.defs(decoded).tolist(), regset.uses(decoded).tolist()
    for word, changed, read in zip(words, defs, uses, strict=True):
        one = decode(word)
        assert regset.to_mask(changed) == one.defs & ~FPRS, hex(word)
        assert regset.to_mask(read) == one.uses & ~FPRS, hex(word)


@st.composite
def _of_a_form(draw: st.DrawFn) -> int:
    row = draw(st.sampled_from(rows()[1:]))
    return row.match | (draw(st.integers(0, 0xFFFFFFFF)) & ~row.mask & 0xFFFFFFFF)


@given(st.lists(_of_a_form() | st.integers(0, 0xFFFFFFFF), min_size=1, max_size=50))
def test_any_words(words: list[int]) -> None:
    _compare(words)


def test_every_form() -> None:
    """With operands all alike, all different, and each of them 0 and 31."""
    fields = (0, 0x03FF_F800, 0x0022_1800, 0x0000_1800, 0x03E0_F800, 0x03FF_0000, 0x0001_0800)
    _compare([row.match | fill & ~row.mask & 0xFFFFFFFF for row in rows()[1:] for fill in fields])


@pytest.mark.parametrize("profile", ["darwin", pytest.param("linux", marks=pytest.mark.linux)])
def test_the_words_of_kernels(profile: str) -> None:
    image = catalog.open_image(str(catalog.build_image(profile)))
    words = np.unique(np.concatenate([image.words(section) for section in image.code_sections()])).tolist()
    _compare(random.Random(3).sample(words, min(len(words), 10_000)))


def test_a_mask_there_and_back() -> None:
    for number in range(ALL.bit_length()):
        assert regset.to_mask(regset.from_mask(1 << number)) == 1 << number & ~FPRS
    assert regset.from_mask(ALL) == regset.EVERYTHING
    assert regset.EVERYTHING & regset.RETURNS == 0
