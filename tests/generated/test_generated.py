"""What the analysis calls free is free in programs of csmith's, by both compilers and many flags."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patch.matrix.machine import needs_machine, private_runtime

from .judge import Case, Tally, case, compare
from .programs import build, variant

pytestmark = [pytest.mark.long, *needs_machine]

TOGETHER = 30  # programs in one boot
SITES = 150  # of each program
WAYS = 10  # in which each of csmith's programs is compiled
SHARE = 45.0  # seconds of the default run


def _cases(seed: int, directory: Path) -> Iterator[Case]:
    for number in itertools.count():
        program = variant(seed + number // WAYS, number % WAYS)
        try:
            built = build(program, directory)
        except subprocess.TimeoutExpired:  # csmith does not come to an end with every seed
            continue
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{program}: {error.stderr[-500:].decode()}") from error
        yield case(str(program), built, SITES, random.Random(str(program)))


def _judge(seed: int, directory: Path, *, seconds: float, programs: int) -> Tally:
    """Judge programs until so many have run, or for so long; print how far it is."""
    tally, cases, until = Tally(), _cases(seed, directory), time.monotonic() + seconds
    while time.monotonic() < until and tally.programs < programs:
        told = len(tally.wrong)
        compare("generated", list(itertools.islice(cases, TOGETHER)), tally)
        print(
            f"{tally.programs} programs ({tally.left_out} do not end), {tally.reached} of {tally.sites} "
            f"sites reached, refused {dict(tally.refused)}, {len(tally.wrong)} wrong",
            *tally.wrong[told:],
            sep="\n",
            flush=True,
        )
    return tally


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a directory; runtime and caches are private meanwhile."""
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    with private_runtime():
        yield tmp_path


def _number(name: str, default: int) -> int:
    return int(os.environ.get(f"KGDBPATCH_{name}", default))


def test_a_share_of_the_programs(private: Path) -> None:
    tally = _judge(_number("SEED", 1), private, seconds=SHARE, programs=3000)
    assert not tally.wrong
    assert tally.reached > 100


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_many_programs(private: Path) -> None:
    """Half the sites that are wanted are reached: 3,000 programs have more than 200,000."""
    programs = _number("PROGRAMS", 3000)
    tally = _judge(_number("SEED", 10_000), private, seconds=6 * 3600, programs=programs)
    assert not tally.wrong
    assert tally.programs >= programs
    assert tally.reached > 200_000 / 3000 * programs
