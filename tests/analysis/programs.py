"""Small programs for the tests, analysed as a whole kernel is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.interprocedural import FREEABLE, ProgramLiveness, analyze_program
from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.isa.abi import ABI, SYSV
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import names

from .code import BASE, assemble

__all__ = ["free", "index", "program", "reader"]

_NONE: Mapping[int, Sequence[int]] = {}


def program(
    *functions: str, fixups: Mapping[int, Sequence[int]] | None = _NONE, abi: ABI = SYSV
) -> tuple[ProgramLiveness, list[int]]:
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
    return analyze_program([(BASE, words)], table, abi, [], ImplicitEdges(fixups)), starts


def _labels(functions: Sequence[str]) -> str:
    """Return the labels that functions define, so that what comes before assembles by itself."""
    lines = [line.split(":")[0].strip() for text in functions for line in text.split("\n") if ":" in line]
    return "\n".join(f".set {name}, here" for name in lines if not name.isdigit())


def reader(liveness: ProgramLiveness) -> Callable[[int, int], Words]:
    """Return what reads the words of a program."""
    return lambda at, count: np.asarray(liveness.program.words[liveness.program.at(at) :][:count])


def index(liveness: ProgramLiveness) -> LivenessIndex:
    """Return what is kept of an analysis."""
    return LivenessIndex.of(liveness, liveness.solve())


def free(liveness: ProgramLiveness, address: int) -> set[str]:
    """Return the registers that are free before an instruction."""
    live = index(liveness).live(address, reader(liveness))
    assert live == int(liveness.everywhere(liveness.solve())[liveness.program.at(address)])
    return set(names(regset.to_mask(int(FREEABLE) & ~live)))
