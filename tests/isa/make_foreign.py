"""Make kgdbpatch/isa/foreign.txt anew: python -m tests.isa.make_foreign (some minutes).

objdump is asked, as a black box, which words it knows that the exact table does not. Words of
one primary opcode and one name give a row: the bits that all of them share. Where random words of
that row are not all known, single bits are tried instead. What stays coarse is a row that takes
in invalid forms as well (an update with rA 0, overlapping operands); no known word is left out.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.match import find_forms
from kgdbpatch.isa.table import TABLE

from .objdump import mnemonics

Words = npt.NDArray[np.uint32]
_Row = tuple[int, int, str]

_EXTENDED = (4, 19, 30, 31, 59, 60, 63)
_COARSE = 0.5  # share of known words at which a row with invalid forms in it is taken
_SAMPLES = 96
_FLIPS = 6
# first words of POWER10's prefixed instructions; the generator only looks at single words
_PREFIXES: list[tuple[int, int, str]] = [
    (0xFFEC0000, 0x04000000, "prefix"),
    (0xFFEC0000, 0x06000000, "prefix"),
    (0xFFFF0000, 0x05000000, "prefix"),
    (0xFFF00000, 0x07900000, "prefix"),
    (0xFFFFFFFF, 0x07000000, "prefix"),
]
_TARGET = Path(__file__).parents[2] / "kgdbpatch" / "isa" / "foreign.txt"

_rng = np.random.default_rng(1)


def _random(count: int) -> Words:
    words = _rng.integers(0, 1 << 32, count, dtype=np.uint32)
    words[: count // 3] &= _rng.integers(0, 1 << 32, count // 3, dtype=np.uint32)
    words[-(count // 3) :] |= _rng.integers(0, 1 << 32, count // 3, dtype=np.uint32)
    return words


def _exact(words: Words) -> npt.NDArray[np.bool_]:
    forms = find_forms(words)
    return (forms > 0) & (forms < len(TABLE))


def _names(words: Words) -> list[str]:
    """Return raw names (no aliases) of words that objdump knows at its default settings."""
    default, raw = mnemonics(words), mnemonics(words, "-M", "raw")
    return [(r or d) if d else "" for d, r in zip(default, raw, strict=True)]


def _candidates(primary: int) -> Words:
    """Return words with every low half and fields that are zero, counted through or random."""
    fields = []
    for value, x, y in itertools.product(range(32), (0, None), (0, None)):
        a, b = (int(_rng.integers(32)) if other is None else other for other in (x, y))
        fields += [value << 21 | a << 16 | b << 11, a << 21 | value << 16 | b << 11]
        fields += [a << 21 | b << 16 | value << 11]
    upper = np.array(fields, dtype=np.uint32) | np.uint32(primary << 26)
    words: Words = (upper[:, None] | np.arange(2048, dtype=np.uint32)[None, :]).ravel()
    if primary not in _EXTENDED:
        words = _rng.choice(words, 100_000)
    return words[~_exact(words)]


def _sample(bits: int, match: int, count: int) -> Words:
    return np.uint32(match) | (_random(count) & np.uint32(~bits & 0xFFFFFFFF))


def _share_known(bits: int, match: int) -> float:
    words = _sample(bits, match, _SAMPLES)
    known = np.array([bool(name) for name in mnemonics(words)])
    return float((known | _exact(words)).mean())


def _shared_bits(words: Words) -> tuple[int, int]:
    low, high = np.bitwise_and.reduce(words), np.bitwise_or.reduce(words)
    bits = int(~(low ^ high))
    return bits, int(low) & bits


def _relaxed(row: _Row) -> _Row:
    """Free the bits that were alike in all words of a row only by chance."""
    bits, match, name = row
    fixed = [1 << n for n in range(26) if bits >> n & 1]
    if not fixed:
        return row
    words = np.concatenate([_sample(bits, match, _FLIPS) ^ np.uint32(one) for one in fixed])
    same = [other == name for other in _names(words)]
    freed = sum(one for n, one in enumerate(fixed) if all(same[n * _FLIPS : (n + 1) * _FLIPS]))
    if freed and _share_known(bits & ~freed, match & ~freed) == 1:
        return bits & ~freed, match & ~freed, name
    return row


def _rows_by_flipping(words: Words, name: str) -> list[_Row]:
    """Cover words by rows whose free bits are those that can be flipped one at a time."""
    rows = []
    while len(words):
        flipped = words[0] ^ (np.uint32(1) << np.arange(26, dtype=np.uint32))
        fixed = [n for n, other in enumerate(_names(flipped)) if other != name]
        bits = 0x3F << 26 | sum(1 << n for n in fixed)
        if _share_known(bits, int(words[0]) & bits) < 1:
            bits = 0xFFFFFFFF
        match = int(words[0]) & bits
        rows.append((bits, match, name))
        words = words[(words & np.uint32(bits)) != np.uint32(match)]
    return rows


def _rows(primary: int) -> list[_Row]:
    groups: dict[str, list[int]] = {}
    candidates = _candidates(primary)
    known = np.array([bool(name) for name in mnemonics(candidates)], dtype=np.bool_)
    candidates = candidates[known]
    for word, name in zip(candidates.tolist(), _names(candidates), strict=True):
        groups.setdefault(name, []).append(word)
    rows = []
    for name, members in sorted(groups.items()):
        words = np.array(members, dtype=np.uint32)
        bits, match = _shared_bits(words)
        share = _share_known(bits, match)
        if share == 1 or (share > _COARSE and len(words) > 100):
            rows.append(_relaxed((bits, match, name)))
        else:
            rows += _rows_by_flipping(words, name)
    return rows


def _neighbours(rows: list[_Row]) -> Words:
    """Return the words that lie one or two bits beside a row's match."""
    every = np.array([row.match for row in TABLE[1:]] + [match for _, match, _ in rows], dtype=np.uint32)
    pairs = np.array([1 << n | 1 << m for n in range(26) for m in range(n + 1)], dtype=np.uint32)
    return np.unique(every[:, None] ^ pairs[None, :])


def _rows_beside(rows: list[_Row]) -> list[_Row]:
    words = _neighbours(rows)
    words = words[~_exact(words)]
    for bits, match, _ in rows:
        words = words[(words & np.uint32(bits)) != np.uint32(match)]
    found: list[_Row] = []
    for word, name in zip(words.tolist(), _names(words), strict=True):
        if name and not any(word & bits == match for bits, match, _ in found):
            found += _rows_by_flipping(np.array([word], dtype=np.uint32), name)
    return found


def main() -> None:
    """Write the table."""
    found = [row for primary in range(64) if primary != 1 for row in _rows(primary)]
    found += _rows_beside(found)
    found += _PREFIXES
    found.sort(key=lambda row: (-row[0].bit_count(), row[1]))
    lines = ["# mask match mnemonic; made by tests/isa/make_foreign.py from objdump's answers"]
    lines += [f"{bits:08x} {match:08x} {name}" for bits, match, name in found]
    _TARGET.write_text("\n".join(lines) + "\n", "ascii")


if __name__ == "__main__":
    main()
