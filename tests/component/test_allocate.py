"""Places in the arena, handed out for a table whose entries are partly used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.component import layout
from kgdbpatch.component.allocate import Allocator
from kgdbpatch.component.table import Table
from kgdbpatch.errors import Refused
from kgdbpatch.patch.plan import Plan
from kgdbpatch.personality.base import ArenaPlan

PLAN = ArenaPlan(0x1000_0000, 64 << 20, 0xB000_0000)
CODE = cast(Plan, SimpleNamespace(code=bytes(32), springboard=None))
NEAR_QUICK = [number * layout.QUICK + more for number in range(4) for more in (0, 1, 2)]


def allocator(used: list[int]) -> Allocator:
    empty = np.zeros(len(used), layout.RECORD)
    empty["body"] = PLAN.virtual + layout.bodies_offset(PLAN.size)
    return Allocator(PLAN, Table(empty, np.array(used, np.int64), np.zeros(len(used), np.uint32)), 44)


@given(st.sets(st.sampled_from(NEAR_QUICK)), st.lists(st.booleans(), max_size=8))
def test_the_lowest_free_slot_is_next_and_quick_ones_only_where_asked_for(
    used: set[int], wanted: list[bool]
) -> None:
    places = allocator(sorted(used))
    taken = set(used)
    for quick in wanted:
        free = (slot for slot in range(layout.records(PLAN.size)) if slot not in taken)
        expected = next(slot for slot in free if not quick or slot % layout.QUICK == 0)
        counter = places.peek(32, quick=quick).counter
        assert counter == PLAN.virtual + layout.TABLE_OFFSET + expected * layout.RECORD.itemsize + 44
        assert places.claim(CODE, quick=quick) == expected
        taken.add(expected)


def test_a_full_table_is_refused() -> None:
    places = allocator([slot for slot in range(layout.records(PLAN.size)) if slot not in (5, layout.QUICK)])
    assert [places.claim(CODE), places.claim(CODE)] == [5, layout.QUICK]
    with pytest.raises(Refused, match="the patch table is full"):
        places.peek(32)
