"""`Planner` for a guest of RAM alone: how sites are led to bodies, where those stand, what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from analysis.code import needs_as

from kgdbpatch.component import layout
from kgdbpatch.errors import Misuse, OutOfReach, Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel.planner import Planner
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.personality.bare import Bare
from kgdbpatch.personality.base import Window

from .tiny import COUNT, Far, Near, Tiny

pytestmark = needs_as
LEAVES = [f"leaf{number}" for number in range(10)]


class Narrow(Far):
    """A system with room for two springboards."""

    def springboard_window(self, image: Image) -> Window:
        return Window(0x1000, 0x1020)


@pytest.mark.parametrize(
    ("system", "via", "entry"),
    [
        (Near, "auto", "branch"),
        (Far, "auto", "springboard"),
        (Far, "tails", "springboard"),
        (Near, "trap", "trap"),
        (Far, "trap", "trap"),
    ],
)
def test_how_a_site_is_led_to_its_body(image: Image, system: type[Bare], via: str, entry: str) -> None:
    tiny = Tiny(image, system())
    made = tiny.plan("work+0xc", via=via)
    assert (made.entry, made.site, made.original) == (entry, image.resolve("work+0xc"), tiny.word("work+0xc"))
    windows = {"auto": tiny.text.arena.springboards, "tails": tiny.text.arena.tails}
    if entry == "springboard":
        window = windows[via]
        assert window is not None
        assert made.springboard is not None
        assert window.start <= made.springboard < window.end
    else:
        assert made.springboard is None


def test_a_trap_is_the_last_resort(image: Image) -> None:
    tiny = Tiny(image, Narrow())
    planned, refused = tiny.planned(LEAVES)
    assert [plan.entry for _, plan in planned] == ["springboard"] * 2 + ["trap"] * 8
    assert refused == []
    planner = Planner(image, tiny.site_checker, tiny.arena)  # there is no hook to be had
    payload = planner.payload(COUNT)
    planned, refused = planner.plan_sites((image.resolve(site), payload) for site in LEAVES)
    assert len(planned) == 2
    assert {refusal.rule for refusal in refused} == {"springboard"}


@pytest.mark.parametrize("system", [Near, Far])
def test_no_two_plans_share_anything(image: Image, system: type[Bare]) -> None:
    tiny = Tiny(image, system())
    tiny.apply(*LEAVES[:4])
    tiny.remove(1, 3)
    planned, _ = tiny.planned([*LEAVES, "work+0xc", "deeper"])
    parts = [(plan.body, plan.body + len(plan.code)) for _, plan in planned]
    parts += [(record.body, record.body + record.body_size) for record in tiny.records]
    for windows in (parts, [(b, b + 16) for _, plan in planned if (b := plan.springboard) is not None]):
        ordered = sorted(windows)
        assert all(end <= start for (_, end), (start, _) in pairwise(ordered))
    slots = [slot for slot, _ in planned] + [record.slot for record in tiny.records]
    assert len(set(slots)) == len(slots) == 14
    bodies = [plan.body for _, plan in planned]
    assert all(body % layout.BODY_ALIGNMENT == 0 for body in bodies)


class Both(Near):
    """A system with room for springboards and for bodies near the text."""

    def springboard_window(self, image: Image) -> Window:
        return Window(0x1000, 0x2000)


def test_a_newer_body_can_go_on_without_the_older_patch(image: Image) -> None:
    """The older one's springboard is in everybody's reach; the instruction that it moved is not."""
    tiny = Tiny(image, Both())
    tiny.apply("work+0xc", request=PatchRequest(call="deeper"))
    assert tiny.records[0].entry == "springboard"
    near = tiny.text.arena.near
    assert near is not None
    assert near.start <= tiny.plan("leaf0").body < near.end, "as where there is no older one"
    tiny.apply("work+0xc")
    assert tiny.passes("work+0xc") == [2, 1]
    tiny.remove(1)
    assert tiny.passes("work+0xc") == [2]
    assert tiny.verify().ok


@pytest.mark.parametrize("system", [Near, Far])
def test_a_body_is_put_where_there_is_room_for_all_of_it(image: Image, system: type[Bare]) -> None:
    tiny = Tiny(image, system())
    tiny.apply("leaf0", "leaf1")
    tiny.remove(1)
    (other,) = tiny.records
    made = tiny.plan("leaf2", PatchRequest(asm="nop\n" * 100))
    assert made.body >= other.body + other.body_size, "not in the small gap that the first one left"
    planned, _ = tiny.planned(["leaf2"])
    assert [plan.body < other.body for _, plan in planned] == [True], "which is for a small one"


def test_one_patch_alone_gets_a_counter_that_is_quickly_reached(image: Image) -> None:
    tiny = Tiny(image, Near())
    planner = tiny.planner()
    slots = [planner.plan_site(image.resolve(site), planner.payload(COUNT))[0] for site in LEAVES[:3]]
    assert slots == [0, layout.QUICK, 2 * layout.QUICK]
    assert [slot for slot, _ in tiny.planned(LEAVES[:3])[0]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("site", "rule", "nearest"),
    [("lock+0x4", "reservation", "lock"), ("table", "data", None), ("work+0x2", "alignment", None)],
)
def test_what_is_refused_names_rule_and_nearest(
    image: Image, site: str, rule: str, nearest: str | None
) -> None:
    tiny = Tiny(image, Near())
    with pytest.raises(Refused) as refused:
        tiny.plan(site)
    assert (refused.value.rule, refused.value.address) == (rule, image.resolve(site))
    if nearest is not None:
        assert refused.value.nearest == image.resolve(nearest)


def test_the_nearest_site_is_one_that_has_no_patch(image: Image) -> None:
    tiny = Tiny(image, Near())
    tiny.apply("lock")
    with pytest.raises(Refused) as refused:
        tiny.plan("lock+0x4")
    assert refused.value.nearest == image.resolve("lock+0xc"), "behind the stwcx."


def test_the_refused_are_left_out_of_many(image: Image) -> None:
    tiny = Tiny(image, Near())
    planned, refused = tiny.planned(["leaf0", "lock+0x4", "leaf1", "table"])
    assert [plan.site for _, plan in planned] == [image.resolve("leaf0"), image.resolve("leaf1")]
    assert [refusal.rule for refusal in refused] == ["reservation", "data"]
    planner = tiny.planner()
    sites = [image.resolve(site) for site in ("leaf0", "lock+0x4", "leaf1", "table")]
    assert [one.rule for one in planner.refusals(sites, planner.payload(COUNT))] == ["reservation", "data"]
    with pytest.raises(Misuse, match="leaf0 is given twice"):
        tiny.planned(["leaf0", "leaf1", "leaf0"])


def test_force_goes_against_a_rule_and_says_so(image: Image) -> None:
    tiny = Tiny(image, Near())
    made = tiny.plan("lock+0x4", PatchRequest(asm="nop"), force=True)
    assert made.forced == ("reservation",)
    with pytest.raises(Refused, match="cannot count, forced or not"):
        tiny.plan("lock+0x4", force=True)
    planner = tiny.planner(force=True)
    payload = planner.payload(PatchRequest(asm="nop"))
    planned, _ = planner.plan_sites([(image.resolve("lock+0x4"), payload)])
    tiny.client.apply(tiny.header, planned)
    assert [record.forced for record in tiny.records] == [("reservation",)]


def test_instructions_that_branch_must_reach(image: Image) -> None:
    request = PatchRequest(asm="bl deeper")
    assert Tiny(image, Near()).plan("work+0x18", request).entry == "branch"
    with pytest.raises(OutOfReach):
        Tiny(image, Far()).plan("work+0x18", request)


def test_a_payload_that_comes_back_to_its_site_is_guarded(image: Image) -> None:
    tiny = Tiny(image, Near())
    made = tiny.plan("deeper", PatchRequest(call="work"))
    assert made.guarded
    (warning,) = made.warnings
    assert "comes back to its own site (work ─► deeper)" in warning
    plain = tiny.plan("leaf0", PatchRequest(call="deeper"))
    assert (plain.guarded, plain.warnings) == (False, ())


def test_what_it_calls_may_be_patched_with_a_call_back(image: Image) -> None:
    """A patch at what is called makes new ways: nothing is proven then."""
    tiny = Tiny(image, Near())
    tiny.apply("deeper", request=PatchRequest(call="leaf0"))
    assert tiny.plan("leaf0", PatchRequest(call="deeper")).guarded


def test_ways_that_this_kernel_has_not(image: Image) -> None:
    tiny = Tiny(image, Near())
    for via, rule in (("trap", "trap"), ("tails", "springboard")):
        with pytest.raises(Refused) as refused:
            Planner(image, tiny.site_checker, tiny.arena, via=via)
        assert refused.value.rule == rule
    with pytest.raises(Misuse, match="'magic' is no way to a patch"):
        PatchRequest(count=True, via="magic")


def test_plans_are_made_anew_of_what_is_there(image: Image) -> None:
    """A plan holds the word that it was made from, which the guest compares."""
    tiny = Tiny(image, Near())
    planned, _ = tiny.planned(["leaf0"])
    ((slot, made),) = planned
    tiny.client.apply(tiny.header, planned)
    with pytest.raises(Refused, match="as expected"):
        tiny.client.apply(tiny.header, [(slot + 1, made._replace(body=made.body + 0x100))])
    assert tiny.states == {1: "active"}
    assert tiny.plan("leaf0").original == made.splice
