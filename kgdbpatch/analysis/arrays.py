"""What numpy lacks, or has only slower: ranges, runs of equal values, distinct values, equal pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["distinct", "equal_pairs", "ranges", "runs"]

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


def equal_pairs(left: _Indices, right: _Indices) -> tuple[_Indices, _Indices]:
    """Return the pairs (i, j) with ``left[i] == right[j]``, ascending; all values are below 65536.

    >>> [column.tolist() for column in equal_pairs(np.array([7, 9, 8]), np.array([8, 7, 8]))]
    [[0, 2, 2], [1, 0, 2]]
    """
    order = np.argsort(right.astype(np.uint16), kind="stable")
    many = np.bincount(right, minlength=1 << 16)
    first = np.cumsum(many) - many
    some = np.flatnonzero(many.take(left))
    value = left.take(some)
    count = many.take(value)
    return np.repeat(some, count), order[ranges(first.take(value), count)]
