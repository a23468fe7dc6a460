"""The array operations of the analysis do what numpy and plain Python do more slowly."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.analysis.arrays import distinct, equal_pairs, ranges, runs

_NUMBERS = st.lists(st.integers(-(1 << 40), 1 << 40) | st.integers(0, 3), max_size=20)
_HALVES = st.lists(st.integers(0, 0xFFFF) | st.integers(0, 3), max_size=20)


def _array(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@given(_NUMBERS)
def test_distinct_values_are_those_of_unique(values: list[int]) -> None:
    assert distinct(_array(values)).tolist() == np.unique(_array(values)).tolist()


@given(_NUMBERS)
def test_a_run_begins_where_the_value_before_is_another(values: list[int]) -> None:
    expected = [n for n, value in enumerate(values) if not n or values[n - 1] != value]
    assert runs(_array(values)).tolist() == expected


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 4)), max_size=10))
def test_ranges_stand_one_behind_the_other(pairs: list[tuple[int, int]]) -> None:
    first, count = _array([one for one, _ in pairs]), _array([other for _, other in pairs])
    assert ranges(first, count).tolist() == [n for start, many in pairs for n in range(start, start + many)]


@given(_HALVES, _HALVES)
def test_equal_pairs_are_all_of_them(left: list[int], right: list[int]) -> None:
    expected = [(i, j) for i, one in enumerate(left) for j, other in enumerate(right) if one == other]
    found = equal_pairs(_array(left), _array(right))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
