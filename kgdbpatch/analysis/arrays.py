"""What numpy lacks, or has only slower: ranges, runs of equal values, distinct values, joined sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["distinct", "ranges", "runs"]

_Indices = npt.NDArray[np.int64]


def ranges(first: _Indices, count: _Indices) -> _Indices:
    """Return the numbers ``first[i] .. first[i] + count[i] - 1`` of every i in one row."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    result = np.repeat(first - (ends - count), count)
    result += np.arange(total)
    return result


def runs(values: npt.NDArray[np.generic]) -> _Indices:
    """Return where runs of equal values begin.

    >>> runs(np.array([5, 5, 7, 5])).tolist()
    [0, 2, 3]
    """
    begins = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def distinct(values: _Indices) -> _Indices:
    """Return the distinct values, ascending (faster than `numpy.unique`, which hashes)."""
    ordered = np.sort(values)
    return ordered[runs(ordered)]
