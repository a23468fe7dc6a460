"""What turns translation off is the family's to say: MSR[IR] and MSR[DR] are 1 on, MSR[IS] and MSR[DS] 0."""

from __future__ import annotations

import pytest
from analysis.code import BASE, assemble, needs_as

from kgdbpatch import cpu
from kgdbpatch.analysis.hazards import translation
from kgdbpatch.isa.decode import decode

pytestmark = needs_as

CLEARED = "mfmsr 9\n rlwinm 9,9,0,28,25\n mtmsr 9\n isync\n nop\n mfmsr 9\n ori 9,9,0x30\n mtmsr 9\n blr"
SET = "mfmsr 9\n ori 9,9,0x30\n mtmsr 9\n isync\n nop\n mfmsr 9\n rlwinm 9,9,0,28,25\n mtmsr 9\n blr"


@pytest.mark.parametrize(
    ("word", "models"),
    [
        (0x7C70_83A6, {""}),  # mtibatu 0,r3; on an e500 mtivor32
        (0x7C7B_8BA6, {""}),  # mtspr 571,r3: of BATs 4 to 7; on an e500 mtmcsrr1
        (0x7C79_03A6, {""}),  # mtsdr1 r3
        (0x7C00_07A4, {"e500"}),  # tlbwe
    ],
)
def test_what_changes_what_is_mapped(word: int, models: set[str]) -> None:
    found = {model for model in ("", "e500") if cpu.of_model(model).remaps(decode(word, BASE, model))}
    assert found == models


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
