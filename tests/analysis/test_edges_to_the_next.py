"""An implicit edge to the next instruction matters where the one that it leads from changes something."""

from __future__ import annotations

import pytest

from kgdbpatch.isa.registers import mask, names

from .code import BASE, needs_as
from .programs import free, program

pytestmark = needs_as

_FIRST = BASE + 4


def _free(instruction: str, *edges: int) -> set[str]:
    source = f"f: li 6, 1\n{instruction}\nadd 3, 5, 6\nblr"
    liveness, _ = program(source, "g: li 5, 1\nblr", fixups={_FIRST: edges} if edges else {})
    return free(liveness, _FIRST)


@pytest.mark.parametrize("instruction", ["lwz 5, 0(4)", "li 5, 0", "bl g"])
def test_what_it_changes_is_live_before_it(instruction: str) -> None:
    assert "r5" in _free(instruction)
    assert "r5" not in _free(instruction, _FIRST + 4)


@pytest.mark.parametrize("instruction", ["nop", "stw 6, 0(4)", "cmpwi 4, 0"])
def test_nothing_else_is(instruction: str) -> None:
    plain = _free(instruction)
    assert "r5" not in plain
    assert plain - {*names(mask("cr0"))} == _free(instruction, _FIRST + 4) - {*names(mask("cr0"))}
