"""The hash table of sites entered by a trap, looked up as the hook does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.traps import Traps
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.patch.trap import HOMES, Hook, is_trap, trap_word
from kgdbpatch.personality.base import ArenaPlan

from .fake import FakeRam

PLAN = ArenaPlan(physical=0, size=1 << 25, virtual=1 << 28)


class Memory(FakeRam):
    """RAM that obeys store commands."""

    def __init__(self) -> None:
        super().__init__(layout.TABLE_OFFSET)

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            assert command.op is Op.STORE
            self.put(command.a, command.b)

    def entries(self) -> npt.NDArray[np.void]:
        return self.array(layout.TRAPS_OFFSET, layout.TRAP_ENTRIES * 8).view(layout.TRAP)

    def look_up(self, site: int) -> int | None:
        """As the hook: from the home entry on to an empty one."""
        for entry in self.entries()[(site << 1 & 0xFFF8) >> 3 :]:
            if entry["site"] == site:
                return int(entry["body"])
            if entry["site"] == 0:
                return None
        raise AssertionError("the hook would run out of the table")


def traps(memory: Memory) -> Traps:
    return Traps(memory, Arena(memory, PLAN))


# few homes, so that entries collide: equal ones in other blocks of 32 KiB, and neighbours
sites = st.builds(
    lambda home, block: 4 * (HOMES * block + home), st.sampled_from([5, 6, HOMES - 1]), st.integers(1, 6)
)


@given(st.lists(st.tuples(st.booleans(), sites)))
def test_the_table_is_a_dictionary(orders: list[tuple[bool, int]]) -> None:
    memory, model = Memory(), {}
    for number, (put, site) in enumerate(orders):
        if put:
            model[site] = 0x1000_0000 + number
            memory.obey(traps(memory).put(site, model[site]))
        else:
            model.pop(site, None)
            memory.obey(traps(memory).drop(site))
        assert {at: memory.look_up(at) for _, at in orders} == {at: model.get(at) for _, at in orders}
    for site in model:
        memory.obey(traps(memory).drop(site))
    assert not memory.entries()["site"].any(), "marks of what is gone go with the last entry"


def test_a_full_table_is_refused_and_the_hook_still_ends() -> None:
    memory = Memory()
    room = layout.TRAP_ENTRIES - 1 - (HOMES - 1)
    entries = memory.entries()
    entries["body"][HOMES - 1 : -1] = range(1, room + 1)
    entries["site"][HOMES - 1 : -1] = 4 * (HOMES * entries["body"][HOMES - 1 : -1] + HOMES - 1)
    table = traps(memory)
    with pytest.raises(Refused, match="full"):
        table.put(4 * (HOMES * (room + 1) + HOMES - 1), 1)
    assert memory.look_up(4 * (HOMES * (room + 1) + HOMES - 1)) is None
    assert memory.look_up(4 * (HOMES * room + HOMES - 1)) == room


def test_trap_words_are_all_different_and_not_the_kernels() -> None:
    words = {trap_word(number) for number in range(layout.records(32 << 20))}
    assert len(words) == layout.records(32 << 20)
    assert all(is_trap(word) and not word & 1 for word in words)
    assert 0x0FE0_0000 not in words  # twi 31,0,0


def test_a_vector_that_begins_with_a_branch_can_be_hooked() -> None:
    hook = Hook(0x700, encode.b(0x700, 0x2000), 0x774, 0, layout.TRAPS_OFFSET)
    words = Ppc6xx().hook_words(hook)
    assert any(word == encode.b(at, 0x2000) for at, word in words.items())
    assert words.keys() < set(hook.span)
    with pytest.raises(Refused, match="cannot be moved"):
        Ppc6xx().hook_words(hook._replace(original=0x4182_0100))  # beq
    with pytest.raises(Refused, match="too high in memory for real mode"):
        Ppc6xx().hook_words(hook._replace(at=0x8000))
