"""Which calls may be led to another function."""

from __future__ import annotations

import pytest

from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.replace import redirects
from kgdbpatch.patch.site import Site

AT = 0xC000_1000


@pytest.mark.parametrize(
    ("word", "may"),
    [
        (0x4800_0101, True),  # bl .+0x100
        (0x4800_0005, False),  # bl .+4: asks for its address
        (0x429F_0005, False),  # bcl 20,31,.+4
        (0x4182_0101, False),  # beql .+0x100: the condition would be lost
        (0x4E80_0421, False),  # bctrl: nobody knows where to
        (0x4800_0100, False),  # b .+0x100
    ],
)
def test_only_an_unconditional_direct_call_is_redirected(word: int, *, may: bool) -> None:
    site = Site(decode(word, AT), frozenset(), frozenset(), SYSV)
    assert redirects(site) == may
    assert not redirects(site._replace(entered=True))
