"""What numpy lacks, or has only slower: ranges, runs, distinct values, pairs, values by key, unions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Grouped", "distinct", "equal_pairs", "joined", "marked", "ranges", "runs", "spread", "union"]

_Indices = npt.NDArray[np.int64]
_Sets = npt.NDArray[np.uint64]


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


def marked(count: int, places: npt.NDArray[np.int64] | Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return ``count`` flags of which those at ``places`` are set."""
    flags = np.zeros(count, dtype=np.bool_)
    flags[places] = True
    return flags


def joined(pairs: Iterable[tuple[_Indices, _Indices]]) -> tuple[_Indices, _Indices]:
    """Return pairs of columns as one pair, one behind the other."""
    ones, others = zip(*pairs, strict=True)
    return np.concatenate(ones), np.concatenate(others)


class Grouped:
    """Values by key, as neighbours in a graph are; keys are numbers below ``count``."""

    def __init__(self, keys: _Indices, values: _Indices, count: int) -> None:
        self._values = values[np.argsort(keys, kind="stable")]
        self.count = np.bincount(keys, minlength=count)  # of values, by key
        self._first = np.cumsum(self.count) - self.count

    def of(self, keys: _Indices) -> _Indices:
        """Return the values of some keys, key by key."""
        return self._values[ranges(self._first.take(keys), self.count.take(keys))]

    def at(self, key: int) -> _Indices:
        """Return the values of one key."""
        first = self._first[key]
        return self._values[first : first + self.count[key]]


def union(keys: _Indices, sets: _Sets, count: int) -> _Sets:
    """Return, by key (a number below ``count``), the union of its sets of bits."""
    total = np.zeros(count, dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    if len(order):
        keys = keys[order]
        starts = runs(keys)
        total[keys[starts]] = np.bitwise_or.reduceat(sets[order], starts)
    return total


def spread(sets: _Sets, sources: _Indices, targets: _Indices) -> _Sets:
    """Return sets of bits, each with those of all that edges (source, target) lead to from there."""
    order = np.argsort(sources, kind="stable")
    sources, targets, sets = sources[order], targets[order], sets.copy()
    starts = runs(sources)
    sources = sources[starts]
    while len(starts):
        before = sets[sources]
        after = before | np.bitwise_or.reduceat(sets[targets], starts)
        if (after == before).all():
            break
        sets[sources] = after
    return sets


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
