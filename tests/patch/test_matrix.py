"""Displaced instructions have the effect they had: every form, run on a CPU with and without its patch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from kgdbpatch.isa.abi import DARWIN
from kgdbpatch.patch.reach import free_gprs
from kgdbpatch.patch.site import Site

from .matrix.cases import Case, Layout, lay_out
from .matrix.machine import STACK, STACK_POINTER, Outcome, needs_machine, private_runtime, run

pytestmark = [pytest.mark.guest, *needs_machine]
_LOOP, _SEED = 0x900, 5


@pytest.fixture(scope="module")
def layout() -> Layout:
    return lay_out(_SEED)


@pytest.fixture(scope="module")
def outcomes(layout: Layout) -> tuple[Outcome, Outcome]:
    """All cases run twice from equal states: as the kernel has them, and patched."""
    states = np.concatenate(layout.states, dtype=layout.states[0].dtype)
    stack = np.random.default_rng(_SEED).bytes(len(STACK))
    counters = [case.counter or 0x3000 for case in layout.cases]
    with private_runtime():
        before = run("matrix-before", layout.before, states, counters, stack)
        return before, run("matrix-after", layout.after, states, counters, stack)


def _differences(case: Case, old: np.void, new: np.void) -> list[str]:
    dead = case.site.free_after - ({"cr0"} if case.form.then else set())
    found = [name for name in ("vector", "srr0") if old[name] != new[name]]
    found += ["msr"] if (old["srr1"] ^ new["srr1"]) & 0xFFFF else []
    found += [name for name in ("lr", "ctr") if old[name] != new[name] and name not in dead]
    found += [f"r{n}" for n in range(32) if old["r"][n] != new["r"][n] and f"r{n}" not in dead]
    for n in range(8):
        if (old["cr"] ^ new["cr"]) >> (28 - 4 * n) & 15 and f"cr{n}" not in dead:
            found.append(f"cr{n}")
    for name, bits in (("so", 1 << 31), ("ov", 1 << 30), ("ca", 1 << 29), ("string", 0x7F)):
        if (old["xer"] ^ new["xer"]) & bits and name not in dead:
            found.append(name)
    return [f"{name} ({_show(old, name)} ─► {_show(new, name)})" for name in found]


def _show(result: np.void, name: str) -> str:
    fields = result.dtype.names or ()
    if name in fields:
        return f"0x{int(result[name]):x}"
    return f"0x{int(result['r'][int(name[1:])]):x}" if name[1:].isdigit() and name[0] == "r" else "?"


def test_every_form_has_the_effect_it_had(layout: Layout, outcomes: tuple[Outcome, Outcome]) -> None:
    before, after = outcomes
    assert len(layout.cases) > 9000
    wrong = []
    for case, old, new in zip(layout.cases, before.results, after.results, strict=True):
        differences = _differences(case, old, new)
        if differences:
            wrong.append(f"{case}: {', '.join(differences)}")
    assert not wrong, f"{len(wrong)} of {len(layout.cases)}:\n" + "\n".join(wrong[:20])


def test_cases_end_in_the_ways_they_should(layout: Layout, outcomes: tuple[Outcome, Outcome]) -> None:
    """Both ways of branches, loops, and links were really there to be compared."""
    results = outcomes[0].results
    assert set(results["vector"].tolist()) == {0x700, _LOOP}
    looped = results["vector"] == _LOOP
    assert all(
        case.form.target(case.site.address) == case.site.address
        for case, loops in zip(layout.cases, looped, strict=True)
        if loops
    )
    assert looped.sum() > 100
    sites = np.array([case.site.address for case in layout.cases])
    assert (results["srr0"] == sites + 4).sum() > 1000
    assert ((results["srr0"] != sites + 4) & ~looped).sum() > 1000
    links = [case.site.instruction.links for case in layout.cases]
    assert np.array_equal(results["lr"][links], (sites + 4)[links])


def test_hits_are_counted_once_each(layout: Layout, outcomes: tuple[Outcome, Outcome]) -> None:
    for case, hits in zip(layout.cases, outcomes[1].counters, strict=True):
        if case.counter is not None:
            loops = case.form.target(case.site.address) == case.site.address
            assert hits >= 1 if loops else hits == 1, f"{case}: {hits} hits"


def test_stack_and_red_zone_are_as_they_were(outcomes: tuple[Outcome, Outcome]) -> None:
    before, after = outcomes
    kept = slice(STACK_POINTER["darwin"] - DARWIN.red_zone - STACK.start, None)
    assert before.stack[kept] == after.stack[kept]
    kept = slice(STACK_POINTER["sysv"] - STACK.start, STACK_POINTER["sysv"] - STACK.start + 0x400)
    assert before.stack[kept] == after.stack[kept]
    assert before.stack != after.stack, "nothing was ever spilled"


def test_only_what_nothing_is_free_for_is_refused(layout: Layout) -> None:
    """Refusals: no register to go out of branch reach with, or to keep the target of a blrl in."""
    rules = Counter(refused.rule for _, _, refused in layout.refused)
    assert set(rules) <= {"reach", "registers"}, rules
    for site, geometry, refused in layout.refused:
        assert refused.address == site.address
        if refused.rule == "reach":
            far = site.instruction.target is not None or geometry == "low body"
            assert far
            assert not _can_go(site), f"{site.instruction.text}: {sorted(site.free)}, {geometry}"
        else:
            assert site.instruction.mnemonic == "bclrl"
            assert "ctr" not in site.free
    assert len(layout.refused) < 0.2 * len(layout.cases)


def _can_go(site: Site) -> bool:
    after = site.free_after
    return bool(free_gprs(after)) and bool({"lr", "ctr"} & after)
