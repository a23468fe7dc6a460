"""Patches entered by a trap, on RAM alone: the hook comes with the first and goes with the last."""

from __future__ import annotations

import pytest
from analysis.code import needs_as

from kgdbpatch.component.protocol import StubFailed
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.personality.bare import Bare

from .tiny import STACK, Far, Near, Tiny

pytestmark = needs_as
each = pytest.mark.parametrize("system", [Near, Far])
REAL_MODE = 0x1000  # MSR[ME] alone


@each
def test_the_hook_is_there_as_long_as_it_is_needed(image: Image, system: type[Bare]) -> None:
    tiny = Tiny(image, system())
    before = tiny.memory()
    assert tiny.apply("leaf0", "leaf1", via="trap") == [1, 2]
    hook = tiny.header.hook
    assert hook == tiny.text.hook
    assert hook is not None
    assert tiny.ram.word(hook.vector) == hook.splice
    assert tiny.passes("leaf0") == [1]
    tiny.remove(1)
    assert tiny.header.hook == hook
    assert tiny.passes("leaf1") == [2]
    tiny.remove(2)
    assert tiny.header.hook is None
    assert tiny.memory() == before


@each
@pytest.mark.parametrize("first", [True, False])
def test_a_failed_apply_leaves_traps_as_they_were(image: Image, system: type[Bare], first: bool) -> None:
    tiny = Tiny(image, system())
    if not first:
        tiny.apply("leaf5", "leaf1", via="trap")
    before, hook, states = tiny.memory(), tiny.header.hook, tiny.states
    planned, _ = tiny.planned(["leaf0", "leaf1", "leaf2"], via="trap")
    tiny.ram.put(image.resolve("leaf2"), 0x6000_0000)
    with pytest.raises(Refused, match="as expected"):
        tiny.client.apply(tiny.header, planned, tiny.text.hook)
    tiny.ram.put(image.resolve("leaf2"), image_word(image, "leaf2"))
    assert (tiny.memory(), tiny.header.hook, tiny.states) == (before, hook, states)
    if not first:
        assert tiny.passes("leaf1") == [2]
    assert tiny.verify().ok


def image_word(image: Image, site: str) -> int:
    return int.from_bytes(image.read(image.resolve(site), 4), "big")


def test_a_failed_apply_leaves_the_tails_empty(image: Image) -> None:
    tiny = Tiny(image, Far())
    before = tiny.memory()
    planned, _ = tiny.planned(["leaf0", "leaf1", "leaf2"], via="tails")
    tiny.ram.put(image.resolve("leaf2"), 0x6000_0000)
    with pytest.raises(Refused, match="as expected"):
        tiny.client.apply(tiny.header, planned)
    tiny.ram.put(image.resolve("leaf2"), image_word(image, "leaf2"))
    assert tiny.memory() == before
    assert len(tiny.apply("leaf0", "leaf1", "leaf2", via="tails")) == 3
    tiny.remove()
    assert tiny.memory() == before


def test_the_vectors_are_shown_to_those_alone_who_need_them(image: Image) -> None:
    tiny = Tiny(image, Far())
    tiny.apply("leaf0")
    pages = set(tiny.machine.pages)
    tiny.apply("leaf1", via="tails")
    more = set(tiny.machine.pages) - pages
    tails = tiny.text.arena.tails
    assert tails is not None
    assert pages
    assert more
    assert all(tails.start <= page < tails.end for page in more)


def in_the_hook(tiny: Tiny, site: str, offset: int | None) -> None:
    """The CPU has trapped at a site and is ``offset`` bytes into the hook, with None at its vector."""
    hook = tiny.header.hook
    assert hook is not None
    tiny.machine.special["srr0"] = tiny.image.resolve(site)
    tiny.machine.set(msr=REAL_MODE | 2, pc=hook.vector if offset is None else hook.at + offset)


@pytest.mark.parametrize("offset", [None, 0, 0x40])
def test_a_trap_on_its_way_keeps_body_and_hook(image: Image, offset: int | None) -> None:
    tiny = Tiny(image, Near())
    tiny.apply("leaf0", via="trap")
    in_the_hook(tiny, "leaf0", offset)
    hook = tiny.header.hook
    assert [patch.state for patch in tiny.remove(1).patches] == ["retired"]
    assert tiny.header.hook == hook
    assert tiny.word("leaf0") == image_word(image, "leaf0")
    tiny.machine.set(msr=0x9032, pc=0x2000)
    tiny.machine.special["srr0"] = 0
    tiny.remove(1)
    assert (tiny.states, tiny.header.hook) == ({}, None)


def test_a_trap_of_another_site_keeps_the_hook_alone(image: Image) -> None:
    tiny = Tiny(image, Near())
    tiny.apply("leaf0", via="trap")
    in_the_hook(tiny, "leaf7", 8)
    assert [patch.state for patch in tiny.remove(1).patches] == ["removed"]
    assert tiny.header.hook is not None
    tiny.machine.set(msr=0x9032, pc=0x2000)
    tiny.apply("leaf1")
    tiny.remove(2)
    assert tiny.header.hook is None, "it goes with the next patch, whatever leads to that"


def test_a_vector_that_has_changed_is_no_place_for_a_hook(image: Image) -> None:
    tiny = Tiny(image, Near())
    planned, _ = tiny.planned(["leaf0"], via="trap")
    before, hook = tiny.word("leaf0"), tiny.text.hook
    assert hook is not None
    tiny.machine.at_stop = lambda: tiny.ram.put(hook.vector, 0x6000_0000)
    with pytest.raises(StubFailed, match=r"could not do splice \(found 0x60000000\)"):
        tiny.client.apply(tiny.header, planned, hook)
    assert (tiny.word("leaf0"), tiny.states, tiny.ram.word(hook.vector)) == (before, {}, 0x6000_0000)
    assert tiny.header.hook is None, "nobody is to believe that it is there"
    assert not any(tiny.ram.word(at - hook.shift) for at in hook.span)
    tiny.machine.at_stop = lambda: None
    assert tiny.apply("leaf1") == [2]
    assert tiny.verify().mismatched == (hook.vector,)


def test_a_vector_that_something_has_written_to_stays_as_it_is(image: Image) -> None:
    """The patches go, and what is left of the hook."""
    tiny = Tiny(image, Near())
    tiny.apply("leaf0", "leaf1", via="trap")
    hook = tiny.header.hook
    assert hook is not None
    tiny.ram.put(hook.vector, 0x6000_0000)
    assert not tiny.verify().ok
    assert [patch.state for patch in tiny.remove().patches] == ["removed"] * 2
    assert (tiny.states, tiny.header.hook, tiny.ram.word(hook.vector)) == ({}, None, 0x6000_0000)
    assert not any(tiny.ram.word(at - hook.shift) for at in hook.span)


def test_a_removed_trap_is_entered_no_more_while_somebody_is_in_it(image: Image) -> None:
    """Its memory is kept for who was interrupted there; the trap leads to the patch below at once."""
    tiny = Tiny(image, Near())
    for _ in range(2):
        tiny.apply("leaf0", request=PatchRequest(asm="nop", count=True), via="trap")
    tiny.ram.put(STACK + 0x100, tiny.records[1].body + 4, 0x9032)
    tiny.remove(2)
    assert tiny.states == {1: "active", 2: "retired"}
    assert tiny.passes("leaf0") == [1]


def test_traps_over_a_branch_lead_to_the_newest(image: Image) -> None:
    tiny = Tiny(image, Near())
    nop = PatchRequest(asm="nop", count=True)
    for via in ("trap", "auto", "trap", "trap"):
        tiny.apply("leaf0", request=nop, via=via)
    assert tiny.passes("leaf0") == [4, 3, 2, 1]
    tiny.remove(4)
    assert tiny.passes("leaf0") == [3, 2, 1]
    tiny.remove(3)
    assert tiny.passes("leaf0") == [2, 1]
    tiny.remove()
    assert tiny.header.hook is None
