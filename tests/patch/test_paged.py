"""Memory for patches that the kernel's page tables map: any access to it may take an exception."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.plan import Place, Site, count_payload, plan

SITE = 0xC000_4000
PLACE = Place(body=0xBF00_0000, springboard=None, counter=0xB009_0030)
FREE = frozenset({"r11", "r12", "ctr", "cr0"})


@pytest.mark.parametrize("force", [False, True])
def test_no_patch_where_srr0_and_srr1_are_to_be_read(force: bool) -> None:
    at = Site(decode(0x3863_0001, SITE), FREE, FREE, SYSV, trappable=False, returning=True, force=force)
    assert plan(at, count_payload(), PLACE).body == PLACE.body
    paged = PLACE._replace(paged=True)
    with pytest.raises(Refused, match="to find a page takes an exception") as refused:
        plan(at, count_payload(), paged)
    assert refused.value.rule == "exception return"
    assert plan(at._replace(trappable=True, returning=False), count_payload(), paged).body == PLACE.body
