"""What a user of the library imports and writes first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guest.work import beat

import kgdbpatch
from kgdbpatch import Kernel, Misuse, PatchRequest
from kgdbpatch.errors import BadPatch
from kgdbpatch.patch.request import Asked

pytestmark = pytest.mark.long

C = "static unsigned n; void f(void) { n++; }"


def test_the_package_exports_what_it_says_and_loads_it_on_use() -> None:
    assert all(getattr(kgdbpatch, name) for name in kgdbpatch.__all__)
    code = "import sys, kgdbpatch; print(sum(name.startswith('kgdbpatch.') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    with pytest.raises(AttributeError, match="no attribute 'Colonel'"):
        kgdbpatch.Colonel  # noqa: B018


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "exactly one of asm, c, call"),
        ({"asm": "nop", "c": C}, "exactly one of asm, c, call"),
        ({"asm": "nop", "entry": "f"}, "entry goes with c"),
        ({"count": True, "via": "magic"}, "'magic' is no way"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: Asked, reason: str) -> None:
    with pytest.raises(Misuse, match=reason):
        PatchRequest(**asked)


@pytest.mark.guest
def test_c_and_assembler_as_text_or_as_files(kernel: Kernel, tmp_path: Path) -> None:
    source, assembler = tmp_path / "count.c", tmp_path / "nothing.s"
    source.write_text(C)
    assembler.write_text("nop\n")
    site = kernel["run_netisr"].address
    ways: list[Asked] = [{"c": C}, {"c": source}, {"c": str(source)}, {"asm": "nop"}, {"asm": assembler}]
    for way in ways:
        asked: Asked = {**way, "count": True}
        with kernel.patch(site, **asked) as patch:
            beat(kernel, 2)
            assert patch.hits
            assert patch.id in [one.id for one in kernel.patches]
    request = PatchRequest(asm="nop", count=True)
    with kernel.patch(site, request) as patch:
        assert patch.entry
    with kernel.patch(site, request) as patch:
        listed = next(one for one in kernel.patches if one.id == patch.id)
        assert (listed.id, listed.state, listed.plan) == (patch.id, "active", None)
        assert patch.state == "active"
        assert patch.plan is not None
        assert patch.saved == patch.plan.saved
        beat(kernel, 2)
        assert (listed.refresh().hits or 0) > (listed.hits or 0)
        assert listed != listed.refresh()
    assert patch.state in ("removed", "retired")
    assert len(kernel.patch_all([f.address for f in kernel.functions("vm_*")], request).patches) > 3
    kernel.remove_all()
    with pytest.raises(BadPatch, match=r"stdin"):
        kernel.patch(site, c="void f(void) { return 1 }")
    with pytest.raises(BadPatch, match="no such file"):
        kernel.patch(site, c="missing.c")
    assert kernel.verify().ok
