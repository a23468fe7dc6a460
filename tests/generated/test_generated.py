"""What the analysis calls free is free in programs of csmith's, by both compilers and many flags."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from patch.matrix.machine import needs_machine, private_runtime

from .judge import Tally, case, compare
from .programs import build, variant

pytestmark = needs_machine

TOGETHER = 30  # programs in one boot
SITES = 150  # of each program
WAYS = 10  # in which each of csmith's programs is compiled


def _judge(first: int, directory: Path, tally: Tally, *, seconds: float, programs: int) -> None:
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until and tally.programs < programs:
        cases = []
        for number in range(number, number + TOGETHER):
            program = variant(first + number // WAYS, number % WAYS)
            rng = random.Random(f"{program}")
            try:
                built = build(program, directory)
            except subprocess.CalledProcessError as error:
                raise AssertionError(f"{program}: {error.stderr[-500:].decode()}") from error
            cases.append(case(str(program), built, SITES, rng))
        number += 1
        compare("generated", cases, tally)
        print(f"{tally.programs} programs ({tally.left_out} left out), {tally.reached} of {tally.sites} sites "
              f"reached, {tally.refused} refused, {len(tally.wrong)} wrong", flush=True)
        for line in tally.wrong:
            print("WRONG", line, flush=True)


def test_generated_programs(tmp_path: Path) -> None:
    """A share of a minute."""
    tally = Tally()
    with private_runtime():
        _judge(int(os.environ.get("KGDBPATCH_SEED", "1")), tmp_path, tally, seconds=45, programs=3000)
    assert not tally.wrong
    assert tally.reached > 1000


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_many_generated_programs(tmp_path: Path) -> None:
    tally = Tally()
    seed, programs = (int(os.environ.get(f"KGDBPATCH_{name}", "3000")) for name in ("SEED", "PROGRAMS"))
    with private_runtime():
        _judge(seed, tmp_path, tally, seconds=4 * 3600, programs=programs)
    assert not tally.wrong
    assert tally.programs >= programs
