"""Of several names the plainest comes first, whatever order a file has them in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.image.contents import plainest_first, plainness


@given(st.lists(st.tuples(st.text("_ab", max_size=5), st.integers(0, 3))))
def test_order(given_names: list[tuple[str, int]]) -> None:
    names, ranks = [name for name, _ in given_names], [rank for _, rank in given_names]
    wanted = sorted(range(len(names)), key=lambda at: (ranks[at], *plainness(names[at])))
    assert plainest_first(names, np.array(ranks, np.int64)) == wanted
