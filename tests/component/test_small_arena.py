"""An arena as small as a kernel's allocator gives, in the kernel's own linear map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.layout import BlockEntries, Linear
from kgdbpatch.cpu.ppc6xx.mapping import check_unmapped, free_entries, mapping, shown
from kgdbpatch.cpu.ppc6xx.state import STATE
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Window

from .fake import FakeRam
from .sample import SITES, Sample

MIB = 1 << 20
NEAR = Window(14 * MIB, 16 * MIB)
SMALL = ArenaPlan(32 * MIB, 4 * MIB, 32 * MIB, near=NEAR, linear=True)  # linear: addresses are physical ones


def state(*dbats: tuple[int, int]) -> np.void:
    found = np.zeros(1, STATE)
    found["sdr1"], found["dbat"][0, : len(dbats)] = 0x2_0000, dbats or np.zeros((0, 2))
    one: np.void = found[0]
    return one


def block(start: int, size: int, physical: int) -> tuple[int, int]:
    return start | (size // 0x20000 - 1) << 2 | 2, physical | 2


@pytest.mark.parametrize("size", [layout.LEAST_SIZE, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, 128 * MIB])
def test_table_and_bodies_share_any_size(size: int) -> None:
    behind = layout.TABLE_OFFSET + layout.records(size) * layout.RECORD.itemsize
    assert behind <= layout.bodies_offset(size) < size * 3 // 4
    assert layout.records(size) % layout.QUICK == 0


def test_patches_come_and_go_in_it() -> None:
    kernel = Sample(SMALL)
    before, ids = kernel.text(), kernel.apply(*SITES[:20])
    header = kernel.header
    assert (header.arena.size, header.arena.linear, header.arena.near) == (4 * MIB, True, NEAR)
    records = kernel.arena.records()
    assert all(NEAR.start <= record.body < NEAR.end for record in records), "code is fetched there alone"
    assert kernel.machine.bats[:4].count([0, 0]) == kernel.machine.bats[4:].count([0, 0]) == 3
    assert kernel.remove(*ids) == []
    assert kernel.text() == before


def test_one_that_is_full_says_so() -> None:
    kernel = Sample(SMALL)
    allocator = kernel.arena.allocator()
    (_, body), *_ = kernel.planned(SITES[:1])
    large = body._replace(code=bytes(0x1_0000))
    for _ in range(32):  # in the 2 MiB that the near window shows
        allocator.claim(large)
    with pytest.raises(Refused, match="no room for 65536 more bytes"):
        allocator.claim(large)


def test_what_shows_its_data_and_what_is_left_for_us_to_map() -> None:
    whole = block(0, 64 * MIB, 0)
    assert shown(SMALL, state(whole)) == Linear.BLOCK
    assert shown(replace(SMALL, linear=False), state(whole)) == Linear.NO
    for other in (
        (),
        (block(0, 32 * MIB, 0),),
        (block(32 * MIB, 32 * MIB, 0),),
        (block(0, 64 * MIB, 64 * MIB),),
    ):
        assert shown(SMALL, state(*other)) == Linear.PAGES
    check_unmapped(SMALL, state(block(16 * MIB, 16 * MIB, 0)), FakeRam(1 * MIB))
    with pytest.raises(Refused, match="a BAT of the kernel maps 0x00000000"):
        check_unmapped(SMALL, state(whole), FakeRam(1 * MIB))
    entries = free_entries(SMALL, state(block(16 * MIB, 64 * MIB, 0)))
    assert entries == (BlockEntries(None, None), BlockEntries(0, 1))
    assert [command.a for command in mapping(SMALL, entries)] == [0, 5]
