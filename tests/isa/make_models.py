"""Make kgdbpatch/isa/models.txt anew: python -m tests.isa.make_models (some minutes).

objdump is asked, as a black box, how each model's dialect writes the words that the exact table
lacks or writes otherwise. Words of one name give a row: the bits that all share, and for every operand the
one way of `operands` that gives what objdump wrote for all of them. A row stays only if random
words of it are written so; where its operands are of no known kind, it keeps its name alone ("?").
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.match import find_forms, rows
from kgdbpatch.isa.operands import OPERANDS, operands
from kgdbpatch.isa.table import TABLE
from kgdbpatch.isa.text import text

from .objdump import texts

Words = npt.NDArray[np.uint32]
_Row = tuple[int, int, str, str]  # mask, match, name, operands

MODELS = ("e500", "7450", "750cl", "titan", "405", "440", "476", "860", "e300", "e500mc")
_TARGET = Path(__file__).parents[2] / "kgdbpatch" / "isa" / "models.txt"
_EXTENDED = (4, 19, 30, 31, 56, 57, 58, 59, 60, 61, 62, 63)
_SAMPLES = 600
_VALUES = 12  # of a field that are tried
_SPARSE = [0, *(1 << n for n in range(11, 26))]  # for forms with reserved fields
_FEW = 8  # words of a name from which its row can be told
_SPLIT = re.compile(r"([,()])")
_BRANCHES = (16, 528, 560)  # to LR, CTR, TAR: their names are not of the model
_ADDED = re.compile(r"n?c?(get|put)|\w+fcmu?x")  # of units that FPGA users add to a 405; kernels have none
_rng = np.random.default_rng(7)


def _candidates(primary: int) -> Words:
    """Return words with every low half and fields that are zero, counted through or random."""
    fields = []
    for _, x, y in itertools.product(range(_VALUES), (0, None), (0, None)):
        value = int(_rng.integers(32))
        a, b = (int(_rng.integers(32)) if other is None else other for other in (x, y))
        fields += [
            value << 21 | a << 16 | b << 11,
            a << 21 | value << 16 | b << 11,
            a << 21 | b << 16 | value << 11,
        ]
    fields += _SPARSE
    upper = np.array(fields, dtype=np.uint32) | np.uint32(primary << 26)
    words: Words = (upper[:, None] | np.arange(2048, dtype=np.uint32)[None, :]).ravel()
    if primary == 31:
        words = np.concatenate([words, _numbered()])
    if primary == 19:
        words = words[~np.isin(words >> np.uint32(1) & np.uint32(0x3FF), _BRANCHES)]
    return words if primary in _EXTENDED else _rng.choice(words, 20_000)


def _numbered() -> Words:
    """Return the moves from and to every special and every device control register."""
    number = np.arange(1024, dtype=np.uint32)
    fields = (number & np.uint32(31)) << np.uint32(16) | number >> np.uint32(5) << np.uint32(11)
    found = [np.uint32(31 << 26 | to << 1) | fields for to in (323, 339, 451, 467)]
    every = np.repeat(np.concatenate(found), _VALUES)
    words: Words = every | _rng.integers(0, 32, len(every), dtype=np.uint32) << np.uint32(21)
    return words


def _ours(words: Words) -> list[str]:
    forms = find_forms(words).tolist()
    return [
        text(rows()[form].mnemonic, word, 0) if 0 < form < len(TABLE) else ""
        for form, word in zip(forms, words.tolist(), strict=True)
    ]


def _fit(words: list[int], written: list[str]) -> str | None:
    """Return the syntax that gives the operands of all words, None where there is none."""
    split = [_SPLIT.split(one) for one in written]
    if len({len(parts) for parts in split}) != 1:
        return None
    out = ""
    for column in zip(*split, strict=True):
        if column[0] in (",", "(", ")", ""):
            if len(set(column)) != 1:
                return None
            out += column[0]
            continue
        if len(set(column)) == 1 and not re.fullmatch(r"[a-z]*\d+", column[0]):
            return None
        ways = _ways(words, column)
        if not ways:
            return None
        out += ways[0]
    return out


def _ways(words: list[int], column: tuple[str, ...]) -> list[str]:
    found = []
    for letter in OPERANDS:
        for factor in (1, 2, 4, 8, 16):
            syntax = letter + (str(factor) if factor > 1 else "")
            try:
                if all(operands(syntax, word) == one for word, one in zip(words, column, strict=True)):
                    found.append(syntax)
            except ValueError:  # no number
                break
    return found


def _shared_bits(words: Words) -> tuple[int, int]:
    low, high = np.bitwise_and.reduce(words), np.bitwise_or.reduce(words)
    bits = int(~(low ^ high))
    return bits, int(low) & bits


def _rows(words: Words, written: list[str]) -> Iterator[_Row]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, one in enumerate(written):
        name, _, tail = one.partition(" ")
        groups[name, re.sub(r"[^,()]+", "x", tail)].append(index)
    for (name, _), members in groups.items():
        chosen = words[members]
        if len(set(chosen.tolist())) < _FEW:
            for n in members:
                yield (
                    0xFFFFFFFF,
                    int(words[n]),
                    name,
                    _syntax([int(words[n])], [written[n].partition(" ")[2]]),
                )
            continue
        bits, match = _shared_bits(chosen)
        few = _rng.permutation(len(members))[:400].tolist()
        tails = [written[members[n]].partition(" ")[2] for n in few]
        yield bits, match, name, _syntax([int(chosen[n]) for n in few], tails)


def _syntax(words: list[int], tails: list[str]) -> str:
    if not any(tails):
        return "-"
    found = _fit(words, tails)
    return found if found is not None else "?"


def _sample(row: _Row, count: int) -> Words:
    free = np.uint32(~row[0] & 0xFFFFFFFF)
    words = _rng.integers(0, 1 << 32, count, dtype=np.uint32)
    words[: count // 3] &= _rng.integers(0, 1 << 32, count // 3, dtype=np.uint32)
    return np.uint32(row[1]) | (words & free)


def written(row: _Row, word: int) -> str:
    """Return what a row says of a word."""
    return row[2] if row[3] == "-" else f"{row[2]} {operands(row[3], word)}"


def _verified(found: list[_Row], model: str) -> list[_Row]:
    """Return the rows that say what objdump says, more special ones before others."""
    found = sorted(set(found), key=lambda row: (-row[0].bit_count(), row))
    while True:
        good = [row for row in found if row[3] != "?"]
        found = [row for row in found if row[3] != "?" or not any(_covers(other, row) for other in good)]
        samples = [_sample(row, _SAMPLES) for row in found]
        every = np.concatenate(samples)
        plain, raw = texts(every, "-M", model), texts(every, "-M", f"{model},raw")
        wrong: set[int] = set()
        for number, (word, one, other) in enumerate(zip(every.tolist(), plain, raw, strict=True)):
            index = next(n for n, row in enumerate(found) if word & row[0] == row[1])
            row = found[index]
            if row[3] == "?" or index != number // _SAMPLES or one.startswith(".long"):
                continue
            if written(row, word) not in (one, other):
                wrong.add(index)
        if not wrong:
            return found
        found = [(*row[:3], "?") if number in wrong else row for number, row in enumerate(found)]


def _covers(row: _Row, other: _Row) -> bool:
    return row[0] & other[0] == row[0] and other[1] & row[0] == row[1]


def _model(model: str) -> list[_Row]:
    found: list[_Row] = []
    for primary in sorted(set(range(2, 64)) - {16, 18}):
        words = _candidates(primary)
        plain = texts(words, "-M", model)
        known = np.array([not one.startswith(".long") for one in plain], dtype=np.bool_)
        words = words[known]
        plain = [one for one, chosen in zip(plain, known.tolist(), strict=True) if chosen]
        ours = _ours(words)
        other = np.array([theirs != mine for theirs, mine in zip(plain, ours, strict=True)], dtype=np.bool_)
        if not other.any():
            continue
        words = words[other]
        found += _rows(words, [one for one, chosen in zip(plain, other.tolist(), strict=True) if chosen])
        lacking = words[[not one for one, chosen in zip(ours, other.tolist(), strict=True) if chosen]]
        found += _rows(lacking, texts(lacking, "-M", f"{model},raw"))
    found = [row for row in found if row[2] != ".long"]
    kept = [row for row in _verified(found, model) if not _ADDED.fullmatch(row[2])]
    every = [(row, _ours(_sample(row, 8))) for row in kept if not _said(row, kept)]
    return [row for row, ours in every if row[3] != "?" or not all(ours)]


def _said(row: _Row, found: list[_Row]) -> bool:
    """Tell whether a row of one word only says what a more general one says of it."""
    word = row[1]
    if row[0] != 0xFFFFFFFF or row[3] == "?":
        return False
    general = next((other for other in found if other[0] != 0xFFFFFFFF and _covers(other, row)), None)
    return general is not None and general[3] != "?" and written(general, word) == written(row, word)


def write(tables: dict[str, list[_Row]]) -> None:
    """Write the rows of every model, those alike of several models as one."""
    merged: dict[_Row, list[str]] = defaultdict(list)
    for model, found in tables.items():
        for row in found:
            merged[row].append(model)
    lines = ["# mask match models name operands; made by tests/isa/make_models.py from objdump's answers"]
    for row, models in sorted(merged.items(), key=lambda item: (-item[0][0].bit_count(), item[0])):
        lines.append(f"{row[0]:08x} {row[1]:08x} {','.join(models)} {row[2]} {row[3]}")
    _TARGET.write_text("\n".join(lines) + "\n", "ascii")


def main() -> None:
    """Write the table."""
    write({model: _model(model) for model in MODELS})


if __name__ == "__main__":
    main()
