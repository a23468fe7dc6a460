"""Many patches at once, and several at one site."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.kernel import Kernel, planner
from kgdbpatch.patch.request import PatchRequest

from . import parts
from .work import beat, empty, entries


def states(kernel: Kernel) -> dict[int, str]:
    return {patch.id: patch.state for patch in kernel.patches}


def hits(kernel: Kernel) -> dict[int, int]:
    return {patch.id: patch.hits or 0 for patch in kernel.patches}


def still(kernel: Kernel) -> dict[int, int]:
    """Return the hits of all patches at one moment."""
    kernel.pause()
    counted = hits(kernel)
    kernel.resume()
    return counted


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
def test_every_function_is_counted(kernel: Kernel, profile: str) -> None:
    functions = [f for f in kernel.image.functions if f.section in ("__TEXT,__text", ".text")][:2000]
    batch = kernel.patch_all([function.address for function in functions], count=True)
    assert len(batch.ids) + len(batch.refused) == len(functions)
    assert len(batch.ids) > 0.9 * len(functions), {r.rule for r in batch.refused}
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, len(batch.ids))
    beat(kernel, 2)
    counted = hits(kernel)
    assert sum(1 for identity in batch.ids.values() if counted[identity]) > 100
    if profile == "darwin":  # counting is within reach; calls take the springboards first
        boards = [r.springboard for r in kernel.records()]
        assert set(boards) == {None}
        kernel.remove_all()
        planner = parts.planner(kernel)
        call = planner.any_call()
        planned, _ = planner.plan_sites((function.address, call) for function in functions)
        boards = [made.springboard for _, made in planned]
        assert 0 < sum(board is not None for board in boards) <= 256
        assert None in boards
    empty(kernel)


def test_several_patches_at_one_site(kernel: Kernel) -> None:
    first, second, third = (kernel.patch("run_netisr", count=True) for _ in range(3))
    assert states(kernel) == {first.id: "active", second.id: "active", third.id: "active"}
    before = still(kernel)
    beat(kernel)
    assert kernel.verify().ok
    counted = still(kernel)
    came = {identity: counted[identity] - before[identity] for identity in counted}
    assert min(came.values()) > 0
    assert max(came.values()) - min(came.values()) <= 1  # one may be on its way through them
    kernel.remove(second.id)  # from the middle
    beat(kernel)
    assert states(kernel) == {first.id: "active", third.id: "active"}
    assert kernel.verify().ok
    assert hits(kernel)[first.id] > counted[first.id]
    kernel.remove(first.id)  # what the third goes on to stays as long as it does
    beat(kernel)
    assert states(kernel) == {first.id: "retired", third.id: "active"}
    assert kernel.verify().ok
    reached = hits(kernel)
    beat(kernel)
    assert hits(kernel)[third.id] > reached[third.id]
    assert hits(kernel)[first.id] == reached[first.id]
    empty(kernel)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
def test_a_stack_comes_down_in_any_order(kernel: Kernel, order: tuple[int, ...]) -> None:
    original = kernel.words(kernel.resolve("run_netisr"), 1)[0]
    stack = [kernel.patch("run_netisr", count=True) for _ in order]
    for index in order:
        kernel.remove(stack[index].id)
        verified = kernel.verify()
        assert verified.ok, (order, index)
        assert kernel.words(kernel.resolve("run_netisr"), 1)[0] == original
    beat(kernel, 2)
    empty(kernel)


def test_how_far_planning_is_can_be_heard(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "PROGRESS_INTERVAL", 0.0)
    said: list[str] = []
    kernel.patch_all(entries(kernel, "work_*"), count=True, progress=said.append)
    count = len(entries(kernel, "work_*"))
    assert said[-1] == f"planned {count} of {count} sites"
    empty(kernel)


def test_a_site_given_twice(kernel: Kernel) -> None:
    with pytest.raises(Misuse, match="_run_netisr is given twice; patches of one site are put in one after"):
        kernel.patch_all(["vm_fault", "run_netisr", "run_netisr"], count=True)
    assert kernel.patches == []


def test_new_code_runs_before_old(kernel: Kernel) -> None:
    kernel.patch("run_netisr", asm="lis 12,0x1111")
    upper = kernel.patch("run_netisr", asm="lis 12,0x2222\nmr 0,12")
    lower = kernel.patches[0]
    assert kernel.patches[-1].id == upper.id
    with pytest.raises(Refused):
        kernel.patch("run_netisr+2", count=True)
    kernel.remove(lower.id, upper.id)
    empty(kernel)


def test_all_or_nothing(kernel: Kernel) -> None:
    planner = parts.planner(kernel)
    payload = planner.payload(PatchRequest(count=True))
    functions = [f.address for f in kernel.image.functions if f.section == "__TEXT,__text"][:40]
    planned, _ = planner.plan_sites((function, payload) for function in functions)
    slot, plan = planned[25]
    planned[25] = slot, plan._replace(original=plan.original ^ 1)
    with parts.client(kernel) as component, pytest.raises(Refused, match="not 0x") as refused:
        component.apply(kernel.header, planned)
    assert refused.value.address == plan.site
    assert kernel.patches == []
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)
    beat(kernel)


def test_force_goes_against_rules_and_is_recorded(kernel: Kernel) -> None:
    inside = next(
        site
        for function in kernel.image.functions
        for site in range(function.address, function.end, 4)
        if refusal(kernel, site) == "reservation"
    )
    with pytest.raises(Refused, match="reservation"):
        kernel.patch(inside, asm="nop")
    made = kernel.patch(inside, asm="nop", force=True)  # no lwarx of its own: the reservation outlives it
    assert made.forced == ("reservation",)
    plain = kernel.patch("run_netisr", count=True, force=True)
    assert plain.forced == ()
    assert {patch.id: patch.forced for patch in kernel.patches} == {made.id: ("reservation",), plain.id: ()}
    beat(kernel, 2)
    with pytest.raises(Refused):  # nothing lifts this rule
        kernel.patch("netisr", asm="nop", force=True)
    empty(kernel)


def refusal(kernel: Kernel, site: int) -> str | None:
    """Return the rule that forbids a site."""
    try:
        kernel.site_checker.site(site)
    except Refused as refused:
        return refused.rule
    return None
