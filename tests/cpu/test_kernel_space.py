"""What turns translation off is the family's to say: MSR[IR] and MSR[DR] are 1 on, MSR[IS] and MSR[DS] 0."""

from __future__ import annotations

import pytest
from analysis.code import BASE, assemble, needs_as

from kgdbpatch import cpu
from kgdbpatch.analysis.hazards import translation

pytestmark = needs_as

CLEARED = "mfmsr 9\n rlwinm 9,9,0,28,25\n mtmsr 9\n isync\n nop\n mfmsr 9\n ori 9,9,0x30\n mtmsr 9\n blr"
SET = "mfmsr 9\n ori 9,9,0x30\n mtmsr 9\n isync\n nop\n mfmsr 9\n rlwinm 9,9,0,28,25\n mtmsr 9\n blr"


@pytest.mark.parametrize(
    ("model", "source", "off"),
    [("", CLEARED, True), ("", SET, False), ("e500", SET, True), ("e500", CLEARED, False)],
)
def test_by_family(model: str, source: str, off: bool) -> None:
    found, turning = translation(assemble(source), BASE, cpu.of_model(model).kernel_space)
    inside = {BASE + 4 * index for index in range(3, 8)}
    behind = {BASE + 4 * 8}
    assert (inside <= found, turning >= {BASE + 8}) == (off, off)
    assert not behind & found if off else behind <= found
