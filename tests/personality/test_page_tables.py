"""Where a kernel's own page tables map a byte of RAM, and the other way round."""

from __future__ import annotations

import pytest

from kgdbpatch.personality.base import PageTables

from .module_memory import DIRECTORY, KERNEL, PAGE, Loaded

STACK, TWIN = 0xF100_2000, 0xF240_1000
FRAME = 0x50_0000


@pytest.fixture
def guest() -> Loaded:
    return Loaded("6.1")


def tables(guest: Loaded) -> PageTables:
    found = guest.system.page_tables(guest.image, guest.ram.read)
    assert found is not None
    return found


def set_entry(guest: Loaded, address: int, entry: int) -> None:
    guest.map(address, 1)
    table = guest.ram.word(DIRECTORY - KERNEL + 4 * (address >> 22))
    guest.ram.put(table + 4 * (address >> 12 & 0x3FF), entry)


def test_a_page_that_is_mapped_more_than_once(guest: Loaded) -> None:
    set_entry(guest, STACK, FRAME | 0x795)
    set_entry(guest, TWIN, FRAME | 0x795)
    set_entry(guest, STACK + PAGE, FRAME - PAGE | 0x795)  # the next page is the one before
    pages = tables(guest)
    assert pages.physical(STACK + 0x124) == pages.physical(TWIN + 0x124) == FRAME + 0x124
    assert pages.physical(STACK + PAGE + 4) == FRAME - PAGE + 4
    assert list(pages.addresses(FRAME + 0x124)) == [STACK + 0x124, TWIN + 0x124]
    assert list(pages.addresses(FRAME - PAGE + 4)) == [STACK + PAGE + 4]
    assert pages.physical(KERNEL + 8) == 8  # the linear map needs no page tables
    assert list(pages.addresses(FRAME + PAGE)) == []


def test_it_is_read_anew(guest: Loaded) -> None:
    set_entry(guest, STACK, FRAME | 0x795)
    pages = tables(guest)
    assert list(pages.addresses(FRAME)) == [STACK]
    set_entry(guest, STACK, 0x400)  # what is left of an entry whose page is gone
    assert (pages.physical(STACK), list(pages.addresses(FRAME))) == (None, [])


def test_the_linear_map_by_page_tables_is_no_other_place(guest: Loaded) -> None:
    set_entry(guest, KERNEL + 0x80_0000, 0x80_0000 | 0x795)
    assert list(tables(guest).addresses(0x80_0000)) == []
