"""Small programs for the tests, analysed as a whole kernel is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kgdbpatch.analysis import lane
from kgdbpatch.analysis.interprocedural import FREEABLE, Whole, analyze_whole
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.analysis.sites import Sites
from kgdbpatch.isa.abi import ABI, SYSV
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import names

from .code import BASE, assemble

__all__ = ["free", "index", "program", "reader"]

_NONE: Mapping[int, Sequence[int]] = {}


def program(
    *functions: str, fixups: Mapping[int, Sequence[int]] | None = _NONE, abi: ABI = SYSV
) -> tuple[Whole, list[int]]:
    """Analyse functions that stand one behind the other from `BASE` on; labels are common.

    Returns the addresses of the functions too. ``fixups`` says where control goes on after a
    fault; None: nobody knows.
    """
    words = assemble("\n".join(functions))
    starts, at = [], 0
    for number in range(len(functions)):
        starts.append(BASE + 4 * at)
        at = len(assemble("\n".join([*functions[: number + 1], _labels(functions[number + 1 :])])))
    ends = [*starts[1:], BASE + 4 * len(words)]
    table = [(start, end - start) for start, end in zip(starts, ends, strict=True)]
    return analyze_whole([(BASE, words)], table, abi, [], ImplicitEdges(fixups)), starts


def _labels(functions: Sequence[str]) -> str:
    """Return the labels that functions define, so that what comes before assembles by itself."""
    lines = [line.split(":")[0].strip() for text in functions for line in text.split("\n") if ":" in line]
    return "\n".join(f".set {name}, here" for name in lines if not name.isdigit())


def reader(whole: Whole) -> Callable[[int, int], Words]:
    """Return what reads the words of a program."""
    return lambda at, count: np.asarray(whole.program.words[whole.program.at(at) :][:count])


def index(whole: Whole) -> Sites:
    """Return what is kept of an analysis."""
    return Sites.of(whole, whole.solve())


def free(whole: Whole, address: int) -> set[str]:
    """Return the registers that are free before an instruction."""
    live = index(whole).live(address, reader(whole))
    assert live == int(whole.everywhere(whole.solve())[whole.program.at(address)])
    return set(names(lane.to_mask(int(FREEABLE) & ~live)))
