"""Patches of one site, each over the last: any of them goes at any time, the others stay in force."""

from __future__ import annotations

from itertools import permutations

import pytest
from analysis.code import needs_as

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.personality.bare import Bare

from .tiny import STACK, Far, Near, Tiny

pytestmark = needs_as
SITE = "work+0xc"
NOP = PatchRequest(asm="nop", count=True)  # its payload comes before the instruction that is moved
WAYS = {
    "branches": (Near, ("auto", "auto", "auto")),
    "springboards": (Far, ("auto", "auto", "auto")),
    "traps": (Near, ("trap", "trap", "trap")),
    "tails": (Far, ("tails", "auto", "tails")),
    "a trap between": (Far, ("auto", "trap", "auto")),
    "a branch between": (Near, ("trap", "auto", "trap")),
}
ways = pytest.mark.parametrize(("system", "vias"), WAYS.values(), ids=WAYS.keys())


@ways
@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_they_go_in_any_order(
    image: Image, system: type[Bare], vias: tuple[str, ...], order: tuple[int, ...]
) -> None:
    tiny = Tiny(image, system())
    before, left = tiny.memory(), [3, 2, 1]
    for number, via in enumerate(vias, 1):
        assert tiny.apply(SITE, request=NOP, via=via) == [number]
        assert tiny.passes(SITE) == left[3 - number :]
        assert tiny.verify().ok
    for identity in order:
        left.remove(identity)
        tiny.remove(identity)
        assert tiny.passes(SITE) == left
        verified = tiny.verify()
        assert (verified.ok, verified.patched) == (True, 1 if left else 0)
        assert [one for one, state in sorted(tiny.states.items()) if state == "active"] == sorted(left)
    assert tiny.states == {}, "and no memory is held any more"
    assert tiny.memory() == before
    assert tiny.header.hook is None


@ways
@pytest.mark.parametrize("gone", [(1, 2), (1, 3)])
def test_several_go_at_once(
    image: Image, system: type[Bare], vias: tuple[str, ...], gone: tuple[int, ...]
) -> None:
    tiny = Tiny(image, system())
    for via in vias:
        tiny.apply(SITE, request=NOP, via=via)
    other = tiny.apply("leaf3")
    tiny.remove(*gone, *other)
    left = [one for one in (3, 2, 1) if one not in gone]
    assert tiny.passes(SITE) == left
    assert tiny.verify().ok
    assert tiny.word("leaf3") == int(tiny.text.words(image.lookup("leaf3"), 1)[0])


def test_a_removed_one_is_kept_while_another_leads_on_to_it(image: Image) -> None:
    tiny = Tiny(image, Near())
    for _ in range(2):
        tiny.apply(SITE, request=NOP)
    assert [patch.state for patch in tiny.remove(1).patches] == ["retired"]
    kept = tiny.records[0]
    assert (kept.id, tiny.passes(SITE)) == (1, [2])
    tiny.apply("leaf0", "leaf1")
    assert all(record.body != kept.body for record in tiny.records[1:])
    tiny.remove(2)
    assert sorted(tiny.states) == [3, 4]


def test_one_from_the_middle_is_needed_by_nobody(image: Image) -> None:
    """The newer one is led on to the older one's body, not to the jump in the one that went."""
    tiny = Tiny(image, Near())
    for _ in range(3):
        tiny.apply(SITE, request=NOP)
    assert [patch.state for patch in tiny.remove(2).patches] == ["removed"]
    assert sorted(tiny.states) == [1, 3]


def test_whoever_is_in_the_middle_layer_keeps_it(image: Image) -> None:
    tiny = Tiny(image, Near())
    for _ in range(3):
        tiny.apply(SITE)
    middle = tiny.records[1]
    tiny.ram.put(STACK + 0x100, middle.body + 8, 0x9032)
    tiny.remove(2)
    assert tiny.states == {1: "active", 2: "retired", 3: "active"}
    tiny.ram.put(STACK + 0x100, 0, 0)
    tiny.remove(3)
    assert tiny.states == {1: "active"}


def test_nothing_is_put_over_a_damaged_or_unfinished_one(image: Image) -> None:
    tiny = Tiny(image, Near())
    own = tiny.word(SITE)
    tiny.apply(SITE)
    for word, said in ((0x6000_0000, "is damaged"), (own, "was cut off")):
        tiny.ram.put(image.resolve(SITE), word)
        with pytest.raises(Refused, match=said) as refused:
            tiny.plan(SITE)
        assert refused.value.rule == "unfinished"
    assert tiny.states == {1: "unfinished"}
    tiny.remove(1)
    assert tiny.plan(SITE).original == own


@ways
def test_each_is_judged_by_the_word_that_the_newer_ones_left(
    image: Image, system: type[Bare], vias: tuple[str, ...]
) -> None:
    """An apply may have been cut off before its splice, or something has written over the word."""
    tiny = Tiny(image, system())
    own = tiny.word(SITE)
    for via in vias:
        tiny.apply(SITE, request=NOP, via=via)
    first, second, third = (record.splice for record in tiny.records)
    stand = {
        third: ("active", "active", "active"),
        second: ("active", "active", "unfinished"),
        first: ("active", "unfinished", "damaged"),
        own: ("unfinished", "damaged", "damaged"),
        0x6000_0000: ("damaged", "damaged", "damaged"),
    }
    for word, states in stand.items():
        tiny.ram.put(image.resolve(SITE), word)
        assert tiny.states == dict(enumerate(states, 1)), hex(word)
    tiny.ram.put(image.resolve(SITE), second)
    tiny.remove()
    assert (tiny.states, tiny.word(SITE)) == ({}, own)


def test_a_damaged_one_is_refused_and_dropped_by_force(image: Image) -> None:
    tiny = Tiny(image, Near())
    tiny.apply(SITE, "leaf0")
    tiny.ram.put(image.resolve(SITE), 0x6000_0000)
    with pytest.raises(Refused, match="patch 1 is damaged"):
        tiny.remove(1)
    assert tiny.states == {1: "damaged", 2: "active"}
    done = tiny.remove()
    assert [(refused.rule, refused.address) for refused in done.refused] == [
        ("expected", image.resolve(SITE))
    ]
    assert tiny.states == {1: "damaged"}
    assert [patch.state for patch in tiny.remove(1, force=True).patches] == ["dropped"]
    assert (tiny.states, tiny.word(SITE)) == ({}, 0x6000_0000)
    with pytest.raises(Misuse, match="no patch 7"):
        tiny.remove(7)


def test_one_call_in_between_is_led_on_as_such(image: Image) -> None:
    """The payloads differ: a call, instructions, a count."""
    tiny = Tiny(image, Near())
    for request in (PatchRequest(call="deeper"), PatchRequest(asm="nop"), PatchRequest(count=True)):
        tiny.apply(SITE, request=request)
    assert tiny.passes(SITE) == [3, 2, 1]
    tiny.remove(2)
    assert tiny.passes(SITE) == [3, 1]
    assert tiny.verify().ok
