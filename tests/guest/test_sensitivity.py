"""The darwin guest's self-check notices a register that is disturbed anywhere in the kernel."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel, LiveRegisters

from .sensitivity import Campaign

SNAPSHOT = "sensitivity"
_FLOATING = re.compile(r"f\w+ |lf|stf|mtf|mff")


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """Boot a guest whose time is counted in instructions: the same case gives the same result."""
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(tmp_path))
    with Kernel.boot("darwin", "sensitivity", icount="shift=5,sleep=off") as kernel:
        try:
            kernel.log.wait("selfcheck: ", deadline=60, since=kernel.log.position())
            yield kernel
        finally:
            kernel.shutdown()


def _registers(live: LiveRegisters) -> list[str]:
    """Return the registers worth overwriting: floating-point ones where the code is about them."""
    floating = _FLOATING.match(live.instruction) is not None
    return [
        name
        for name in live.live
        if re.fullmatch(r"r\d+|cr\d|lr|ctr|ca", name) or (floating and re.fullmatch(r"f\d+", name))
    ]


def _mtdec(image: Image) -> tuple[int, int]:
    """Return the address of an instruction that sets the decrementer, and its register's number."""
    (text,) = (s for s in image.code_sections() if s.name == "__TEXT,__text")
    words = image.words(text)
    index = int(np.flatnonzero(words & 0xFC1FFFFF == 0x7C1603A6)[0])
    return text.address + 4 * index, int(words[index]) >> 21 & 31


def _campaign(kernel: Kernel, cases: int, seed: int) -> Campaign:
    kernel.snapshot(SNAPSHOT)
    choice = random.Random(seed)
    (text,) = (s for s in kernel.image.code_sections() if s.name == "__TEXT,__text")
    campaign = Campaign(kernel.qemu, kernel.image.symbolize, _mtdec(kernel.image))
    while len(campaign.cases) < cases:
        site = text.address + 4 * choice.randrange(text.size // 4)
        registers = _registers(kernel.live(site))
        if registers:
            campaign.run(site, registers, choice, SNAPSHOT)
    return campaign


@pytest.mark.soak
def test_most_of_a_few_disturbances_are_noticed(counted: Kernel) -> None:
    campaign = _campaign(counted, 20, seed=750)
    print(campaign.summary())
    assert campaign.share >= 0.6


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_four_of_five_disturbances_are_noticed(counted: Kernel) -> None:
    started = time.monotonic()
    campaign = _campaign(counted, 300, seed=20010523)
    print(campaign.summary(), f"{time.monotonic() - started:.0f} s")
    assert campaign.share >= 0.8
