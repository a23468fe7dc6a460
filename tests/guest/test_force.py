"""What no force overrides."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel


@pytest.mark.parametrize(
    ("site", "payload", "rule"),
    [
        pytest.param("hw_atomic_add+0x8", {"count": True}, "reservation", id="counting in an lwarx window"),
        pytest.param("run_netisr+2", {"asm": "nop"}, "alignment", id="unaligned"),
        pytest.param("version", {"asm": "nop"}, "data", id="data"),
        pytest.param(0x900, {"count": True}, "untranslated", id="an exception vector"),
        pytest.param("exception_exit", {"asm": "nop"}, "untranslated", id="real mode"),
    ],
)
def test_what_no_force_overrides(kernel: Kernel, site: str | int, payload: dict[str, object], rule: str):
    with pytest.raises(Refused) as refused:
        kernel.patch(site, **payload, force=True)
    assert refused.value.rule == rule
    assert kernel.list() == []
