"""Make the runs of every word: the plain one, and those in which something is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.altivec import has_altivec
from kgdbpatch.isa.decode import decode

from .layout import COLUMN, SLOT, Cases, has_vectors, width
from .places import Bools, Indices, Places
from .sandwich import Sandwich
from .states import MSR_PR, copy_register, random_cases
from .words import Probes

__all__ = ["BASE", "FLIP", "OUTSIDE", "USER", "Runs", "defined", "make_runs", "used"]

BASE, OUTSIDE, FLIP, USER = range(4)
_OUTSIDE_RUNS = 2
_LOW64 = (1 << 64) - 1
_AROUND = [COLUMN[name] for name in ("srr0", "srr1", "sr", "spr", "reservation")]  # see `sandwich`
_UNREACHED = [COLUMN[name] for name in ("tb", "tlb")]  # no case can change them


@dataclass
class Runs:
    """Cases with the word of each, what it is for, and which register alone is changed in it (or -1)."""

    slots: npt.NDArray[np.uint32]
    cases: Cases
    probe: Indices
    purpose: npt.NDArray[np.int8]
    flipped: Indices


def _unpacked(masks: Sequence[int]) -> Bools:
    shifts = np.arange(64, dtype=np.uint64)
    halves = [np.array([mask >> low & _LOW64 for mask in masks], dtype=np.uint64) for low in (0, 64)]
    bits = [(half[:, None] >> shifts & np.uint64(1)).astype(np.bool_) for half in halves]
    return np.concatenate(bits, axis=1)


def used(probes: Probes) -> Bools:
    """Return for each word which columns the table says it uses."""
    return _unpacked([decode(word, 0, probes.model).uses for word in probes.words.tolist()])[
        :, : _width(probes)
    ]


def defined(probes: Probes) -> Bools:
    """Return for each word which columns the table says it may change."""
    return _unpacked([decode(word, 0, probes.model).defs for word in probes.words.tolist()])[
        :, : _width(probes)
    ]


def _width(probes: Probes) -> int:
    return width(vectors=has_altivec(probes.model))


def make_runs(probes: Probes, sandwich: Sandwich, places: Places, seed: int) -> Runs:
    """Make the runs of every word.

    One plain; two in which all that the word is not said to use is another, memory beside its
    access included; one for each register that it is said to use, with that alone changed; one
    in user state.
    """
    random = np.random.default_rng(seed)
    count, every = len(probes.words), np.arange(len(probes.words))
    uses = used(probes)
    base = random_cases(random, count, vectors=has_altivec(probes.model))
    places.lead(base, every, random)
    base["entry"] = probes.addresses - 8
    slots = np.zeros((count, SLOT), np.uint32)
    slots[:, 0:2], slots[:, 2], slots[:, 3:5] = sandwich.before, probes.words, sandwich.after
    outside = [_others_changed(base, uses, sandwich, places, random) for _ in range(_OUTSIDE_RUNS)]
    at, column = np.nonzero(uses)
    through = sandwich.source[at, column]
    reached = ~np.isin(column, _UNREACHED) & (~np.isin(column, _AROUND) | (through >= 0))
    at, column, through = at[reached], column[reached], through[reached]
    user = base.copy()
    user["entry"], user["msr"] = probes.addresses, user["msr"] | MSR_PR
    changed = _flipped(base, at, column, through, places, random)
    none = np.full(count, -1)
    counts = [count] * (1 + _OUTSIDE_RUNS) + [len(at), count]
    return Runs(
        slots=slots,
        cases=np.concatenate(
            [base, *outside, changed, user], dtype=base.dtype
        ),  # big-endian stays big-endian
        probe=np.concatenate([every] * (1 + _OUTSIDE_RUNS) + [at, every]),
        purpose=np.repeat(np.array([BASE] + [OUTSIDE] * _OUTSIDE_RUNS + [FLIP, USER], np.int8), counts),
        flipped=np.concatenate([none] * (1 + _OUTSIDE_RUNS) + [column, none]),
    )


def _others_changed(
    base: Cases, uses: Bools, sandwich: Sandwich, places: Places, random: np.random.Generator
) -> Cases:
    keep = uses.copy()
    n, column = np.nonzero(sandwich.source[:, : keep.shape[1]] >= 0)
    matters = uses[n, column]
    keep[n[matters], sandwich.source[n, column][matters]] = True
    other = random_cases(random, len(base), vectors=has_vectors(base))
    mixed = base.copy()
    for number in range(keep.shape[1]):
        copy_register(mixed, number, ~keep[:, number], other)
    every = np.arange(len(base))
    mixed["window"] = np.where(places.accessed(base, every), base["window"], other["window"])
    return mixed


def _flipped(
    base: Cases, at: Indices, column: Indices, through: Indices, places: Places, random: np.random.Generator
) -> Cases:
    cases = base[at]
    other = random_cases(random, len(at), vectors=has_vectors(base))
    places.lead(other, at, random, elsewhere=True)
    register = np.where(through >= 0, through, column)
    moved = places.bases(at, register) | (column == COLUMN["reservation"])
    for number in np.unique(register):
        copy_register(cases, int(number), (register == number) & ~moved, other, differ=True)
    places.move(cases, moved, register, random)
    return cases
