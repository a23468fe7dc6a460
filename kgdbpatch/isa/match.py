"""Find table rows of words, one or an array at a time: by primary opcode and bits 21-31, exact rows first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa import altivec, e500, ppc405, ppc440
from kgdbpatch.isa.extension import Extension
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.foreign import foreign_rows
from kgdbpatch.isa.table import TABLE, Row

__all__ = ["Forms", "extension_of", "find_form", "find_forms", "first_altivec", "rows"]

Forms = npt.NDArray[np.int16]

_UNITS = (altivec.UNIT, e500.UNIT, ppc440.UNIT, ppc405.UNIT)
_LOW_BITS = 11
_LOW = (1 << _LOW_BITS) - 1
_FEW = 2000  # words for which the tables of all are not worth being made


class _Dispatch(NamedTuple):
    masks: npt.NDArray[np.uint32]
    matches: npt.NDArray[np.uint32]
    levels: list[Forms]


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """Return every row: exact ones, foreign, those of extensions; a form is an index into it, 0 unknown."""
    return TABLE + foreign_rows() + tuple(row for unit in _UNITS for row in unit.rows)


@lru_cache(maxsize=1)
def first_altivec() -> int:
    """Return the first form of AltiVec, and of all extensions."""
    return len(TABLE) + len(foreign_rows())


def _firsts() -> Iterator[tuple[int, Extension]]:
    """Yield the first form of each extension, and which it is."""
    first = first_altivec()
    for unit in _UNITS:
        yield first, unit
        first += len(unit.rows)


@lru_cache(maxsize=16)
def _extension(model: str) -> tuple[Extension, int] | None:
    """Return what a model has besides the plain table, and the first form of that."""
    own = altivec.MODEL if altivec.has_altivec(model) else model
    return next(((unit, first) for first, unit in _firsts() if unit.model == own), None)


def extension_of(form: int) -> str:
    """Return the model whose extension a form is of, "" for one of none."""
    return next((unit.model for first, unit in _firsts() if first <= form < first + len(unit.rows)), "")


@lru_cache(maxsize=1)
def _dispatch() -> _Dispatch:
    low = np.arange(_LOW + 1, dtype=np.uint32)
    depth = np.zeros(64 << _LOW_BITS, dtype=np.int16)
    levels: list[Forms] = []
    for form, row in enumerate(rows()[1 : first_altivec()], 1):
        primary, match = row.match >> 26 << _LOW_BITS, row.match & _LOW
        keys: int | npt.NDArray[np.int64]
        if row.mask & _LOW == _LOW:  # as nearly all rows have it
            keys = primary | match
            places = {int(depth[keys]): keys}
        else:
            keys = primary + np.nonzero((low & np.uint32(row.mask & _LOW)) == match)[0]
            used = depth[keys]
            places = {level: keys[used == level] for level in {*used.tolist()}}
        for level, place in places.items():
            if level == len(levels):
                levels.append(np.zeros(64 << _LOW_BITS, dtype=np.int16))
            levels[level][place] = form
        depth[keys] += 1
    return _Dispatch(
        np.array([row.mask for row in rows()], dtype=np.uint32),
        np.array([row.match for row in rows()], dtype=np.uint32),
        levels,
    )


def find_forms(words: Words, model: str = "") -> Forms:
    """Return the form of each word on a model, 0 where none matches."""
    result = _find_forms(words)
    extension = _extension(model)
    if extension is not None:
        unit, first = extension
        at, numbers = unit.row_numbers(words)
        result[at] = numbers + np.int16(first)
    return result


def _find_forms(words: Words) -> Forms:
    if len(words) < _FEW and not _dispatch.cache_info().currsize:
        return np.fromiter(map(find_form, words.tolist()), np.int16, len(words))
    table = _dispatch()
    result = np.zeros(len(words), dtype=np.int16)
    for start in range(0, len(words), 1 << 16):  # a chunk and its temporaries stay in the cache
        chunk = words[start : start + (1 << 16)]
        keys = chunk >> np.uint32(26) << np.uint32(_LOW_BITS) | chunk & np.uint32(_LOW)
        forms = table.levels[0].take(keys)
        wrong = np.nonzero((chunk & table.masks.take(forms)) != table.matches.take(forms))[0]
        result[start : start + len(chunk)] = forms
        for level in table.levels[1:]:
            if not len(wrong):
                break
            # row 0 matches every word, so a word leaves as soon as its candidates run out
            again = level.take(keys[wrong])
            result[start + wrong] = again
            tried = chunk[wrong]
            wrong = wrong[(tried & table.masks.take(again)) != table.matches.take(again)]
        else:
            result[start + wrong] = 0
    return result


def find_form(word: int, model: str = "") -> int:
    """Return the form of one word on a model, 0 where none matches."""
    extension = _extension(model)
    if extension is not None:
        unit, first = extension
        number = unit.row_of(word)
        if number is not None:
            return first + number
    every = rows()
    for form in _candidates(word >> 26, word & _LOW):
        if word & every[form].mask == every[form].match:
            return form
    return 0


@cache
def _candidates(primary: int, low: int) -> tuple[int, ...]:
    """Return the forms that bits 0-5 and 21-31 of a word leave, ascending."""
    every, (exact, others) = rows(), _by_primary()[primary]
    fitting = (form for form in others if every[form].mask & low == every[form].match & _LOW)
    return tuple(sorted([*exact.get(low, ()), *fitting]))


@lru_cache(maxsize=1)
def _by_primary() -> list[tuple[dict[int, list[int]], list[int]]]:
    """Return for each primary opcode the forms by bits 21-31, and those that do not fix them all."""
    found: list[tuple[dict[int, list[int]], list[int]]] = [({}, []) for _ in range(64)]
    for form, row in enumerate(rows()[1 : first_altivec()], 1):
        exact, others = found[row.match >> 26]
        if row.mask & _LOW == _LOW:  # as nearly all rows have it
            exact.setdefault(row.match & _LOW, []).append(form)
        else:
            others.append(form)
    return found
