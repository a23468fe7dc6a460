"""QEMU's e500 confirms what the table says of its own instructions: what they change and depend on."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from kgdbpatch.isa.e500 import ROWS

from .judge.booke import E500, judged, verdict

_TOOLS = ("qemu-system-ppc", "gdb-multiarch", "powerpc-linux-gnu-as")
_MISSING = [tool for tool in _TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.guest,
    pytest.mark.usefixtures("short_runtime"),
    pytest.mark.skipif(bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {_MISSING}"),
]
# What QEMU 7.2 lacks of SPE: most of the multiplications, divisions.
LACKING = re.compile(r"ev(m[hw](?!(um|sm)i(a|aa)?$).*|(add|subf).*aaw|divw[su]|fsn?m(add|sub))")
# It writes more than four bits into a field of CR there, so that the one before changes, too.
SPILLED = re.compile(r"evfs(cmp|tst)(eq|gt|lt)")
# Whether a number is of this kind or that its lower half tells next to never.
RARE = re.compile(r"efd(cmp|tst)(eq|gt|lt)|efdct\w+|efscfd")


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 8))])
def test_the_cpu_agrees_about_every_form(seed: int) -> None:
    rows = [row for row in ROWS if judged(row)]
    assert len(rows) > 260
    found = verdict(E500, rows, 4, seed)
    print("not judged:", *(row.mnemonic for row in ROWS if not judged(row)))
    print("trapped:", *sorted(found.trapped))
    told = {(name, what) for name, what in found.disagreements if not SPILLED.fullmatch(name)}
    assert told == set()
    assert all(what.startswith("changes cr") for _, what in found.disagreements - told)
    assert found.trapped == {row.mnemonic for row in rows if LACKING.fullmatch(row.mnemonic)}
    unseen = {name for (name, _), seen in found.shown.items() if not seen}
    again = [row for row in rows if row.mnemonic in unseen and not RARE.fullmatch(row.mnemonic)]
    if again:  # seldom seen: sought again among more cases
        more = verdict(E500, again, 120, 100 + seed)
        assert {use for use, seen in more.shown.items() if not seen} == set()
