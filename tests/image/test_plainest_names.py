"""Of several names the plainest comes first, whatever order a file has them in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.image.contents import plainest_first, plainness
from kgdbpatch.image.model import Symbol


@given(st.lists(st.tuples(st.text("_ab", min_size=1, max_size=5), st.integers(0, 3))))
def test_order(given_names: list[tuple[str, int]]) -> None:
    symbols = [Symbol(name, address, 0, ".text", "function") for name, address in given_names]
    assert plainest_first(symbols) == sorted(symbols, key=lambda symbol: plainness(symbol.name))
