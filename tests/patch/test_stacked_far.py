"""A patch over a patch, bodies where an absolute branch leads to and none leads back from."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.plan import Place, Site, count_payload, plan

SITE = 0xC000_1000
OLDER, NEWER = 0xFE0C_0100, 0xFE0C_0400
PLACE = Place(NEWER, None, 0xFC0C_0000)


def stacked(after: Set[str], *, linked: bool) -> list[int]:
    """Return the words of a patch put over one at the same site."""
    free, link = frozenset({"r11", "r12", "cr0", *after}), encode.ba(OLDER, link=linked)
    site = Site(
        decode(encode.addi(3, 3, 1), SITE),
        free,
        frozenset(after),
        SYSV,
        under=link,
        under_at=OLDER,
        under_moved=OLDER + 0x20,
    )
    made = plan(site, count_payload(), PLACE)
    found: list[int] = np.frombuffer(made.code[4 * made.onward : 4 * made.body_words], ">u4").tolist()
    assert encode.branch_target(NEWER + 4 * made.onward, found[0]) == OLDER
    assert found[0] & 1 == linked
    return found[1:]


def test_one_that_finds_its_own_way_back_is_gone_on_to() -> None:
    assert stacked(set(), linked=False) == []


def test_one_that_returns_by_lr_comes_back_to_a_way_back() -> None:
    after = {"lr", "cr0", "r11", "r12"}
    for linked in (False, True):  # the one that links may be uncovered later
        behind = stacked(after, linked=linked)
        assert behind == [*encode.load_address(12, SITE + 4), encode.mtlr(12), encode.blr()]


def test_without_a_way_back_it_is_refused() -> None:
    with pytest.raises(Refused, match="out of reach of a new one"):
        stacked(set(), linked=True)
