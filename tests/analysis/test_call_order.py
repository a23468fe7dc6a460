"""Functions are ordered by who calls whom; cycles of calls stay together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.analysis.call_order import levels

_FUNCTIONS = 12
_CALLS = st.sets(st.tuples(st.integers(0, _FUNCTIONS - 1), st.integers(0, _FUNCTIONS - 1)), max_size=20)


def _reaches(calls: set[tuple[int, int]]) -> list[list[bool]]:
    """Return whether each function leads to each other one by at least one call (Warshall)."""
    reach = [[(one, other) in calls for other in range(_FUNCTIONS)] for one in range(_FUNCTIONS)]
    for via in range(_FUNCTIONS):
        for row in reach:
            if row[via]:
                row[:] = [a or b for a, b in zip(row, reach[via], strict=True)]
    return reach


@given(_CALLS)
def test_callees_come_first_and_cycles_stay_together(calls: set[tuple[int, int]]) -> None:
    pairs = np.array(sorted(calls), dtype=np.int64).reshape(-1, 2)
    found = levels((pairs[:, 0], pairs[:, 1]), _FUNCTIONS)
    reach = _reaches(calls)
    groups = [set(functions.tolist()) for functions in found.functions]
    assert sorted(f for group in groups for f in group) == list(range(_FUNCTIONS))
    for number, group in enumerate(groups):
        assert all(found.level[f] == number for f in group)
        assert found.recursive[number] or not any((one, other) in calls for one in group for other in group)
    for one in range(_FUNCTIONS):
        for other in range(_FUNCTIONS):
            if reach[one][other]:
                assert found.level[one] >= found.level[other]
            if reach[one][other] and reach[other][one]:
                assert found.level[one] == found.level[other]
                assert found.recursive[found.level[one]]
