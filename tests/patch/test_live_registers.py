"""What is said of the registers at a site that are reserved, or of which nothing is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kgdbpatch.image import Image
from kgdbpatch.isa.registers import ALL, names
from kgdbpatch.kernel import offline, remembered
from kgdbpatch.kernel.remembered import off_limits
from kgdbpatch.patch.site_checker import SiteChecker
from kgdbpatch.personality import personality

from .elf import needs_binutils, put_together

pytestmark = needs_binutils

FLOATING = {f"f{n}" for n in range(32)}
SOURCE = """
    .text
    .globl _start, behind
    .type _start, @function
_start:
    lfs f1, 0(r3)
    lfs f2, 4(r3)
    fadds f1, f1, f2
    li r5, 0
    stw r5, 0(r4)
    blr
    .size _start, . - _start
    .type behind, @function
behind:
    li r5, 0
    li r6, 0
    blr
    .size behind, . - behind
"""


def test_floating_point_registers_are_reserved(tmp_path: Path) -> None:
    """They are live everywhere, as MSR[FP] may be 0; no reader is named for it."""
    image = put_together(tmp_path, SOURCE)
    site_checker = offline.site_checker(image)
    for site in range(image.entry, image.entry + 24, 4):
        found = site_checker.live(site)
        live, free = set(found.live), set(found.free)
        assert live >= FLOATING
        assert not FLOATING & free
        assert not live & free
        assert live | free == set(names(ALL))
        assert found.address == site
    why = site_checker.why(image.resolve("_start+0xc"))
    assert list(why) == list(site_checker.live(image.resolve("_start+0xc")).live)
    assert {why[name] for name in FLOATING} == {None}
    assert why["r4"] == image.entry + 16
    assert why["r31"] == why["lr"] == image.entry + 20
    assert "r5" not in why


def test_everything_is_live_where_no_code_was_analysed(tmp_path: Path) -> None:
    image = put_together(tmp_path, SOURCE)
    assert "r6" in offline.site_checker(image).live(image.lookup("behind")).free
    judge = _partly_discarded(image)
    found = judge.live(image.lookup("behind"))
    assert (found.instruction, list(found.live), found.free) == ("li r5,0", names(ALL), ())
    assert judge.why(image.lookup("behind")) == dict.fromkeys(names(ALL))
    assert judge.site(image.lookup("behind")).free == frozenset()


def _partly_discarded(image: Image) -> SiteChecker:
    """Return what judges a kernel that gives up the beginning of its code: that section is left out."""
    start = image.code_sections()[0].address
    rules = replace(off_limits(personality("linux"), image), discarded=((start, start + 4),))
    return SiteChecker(
        image, rules, lambda at, count: offline.words(image, at, count), remembered.liveness_index
    )
