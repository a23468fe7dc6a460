"""The kernel's own tracing at patched places: ftrace, kprobes, jump labels are switched under patches."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.patch.rewritten import DETOUR, FTRACE, JUMP_LABEL, PROBED
from kgdbpatch.personality.linux.rewritten import rewritten
from kgdbpatch.results import PatchState

from .work import empty

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux]

TRACING = "/sys/kernel/tracing"
EVENT = f"{TRACING}/events/timer/timer_start/enable"
COUNT = PatchRequest(count=True)
CALLS = 50


def told(kernel: Kernel, command: str) -> None:
    """Have init do something."""
    position = kernel.log.position()
    kernel.send(f"{command}\n")
    answer = kernel.log.wait(rf"^(done|failed) {command.split()[0]}\b", since=position, deadline=120).message
    assert answer.startswith("done"), answer


def traced(kernel: Kernel, function: str) -> int:
    """Return the word that ftrace switches in a function."""
    known, found = rewritten(kernel.image), kernel[function]
    words = range(found.address, found.end, 4)
    return next(at for at in words if at in known and known[at].kind == FTRACE)


def sites(kernel: Kernel, function: str) -> list[int]:
    """Return those of a function's first instructions that may be patched; all calls come through them."""
    start = kernel[function].address
    return [at for at in range(start, start + 48, 4) if kernel.check(at, count=True).rule is None]


def sends(kernel: Kernel, *patches: int) -> None:
    """Send packets; each of these patches counts them all."""
    before = {patch.id: patch.hits or 0 for patch in kernel.patches}
    told(kernel, f"udp {CALLS}")
    after = {patch.id: patch.hits or 0 for patch in kernel.patches}
    assert {one: after[one] - before[one] for one in patches} == dict.fromkeys(patches, CALLS)


def states(kernel: Kernel) -> dict[int, PatchState]:
    return {row.id: row.state for row in kernel.patch_table()}


@pytest.fixture(autouse=True)
def nobody_else_sends(kernel: Kernel) -> object:
    told(kernel, "pause")
    yield
    told(kernel, "resume")
    empty(kernel)


def test_ftrace_is_switched_in_a_patched_function(kernel: Kernel) -> None:
    entry = traced(kernel, "udp_sendmsg")
    with pytest.raises(Refused) as refused:
        kernel.site_checker.site(entry)
    assert refused.value.rule == "rewritten"
    ids = [kernel.patch(at, COUNT).id for at in sites(kernel, "udp_sendmsg")[:4]]
    assert len(ids) == 4
    for _ in range(2):
        told(kernel, f"write {TRACING}/set_ftrace_filter udp_sendmsg")
        told(kernel, f"write {TRACING}/current_tracer function")
        sends(kernel, *ids)
        found = kernel.verify()
        assert found.ok
        changes = {change.address: change.kind for change in found.kernel_changes}
        assert any(at in kernel["udp_sendmsg"] and kind == FTRACE for at, kind in changes.items())
        told(kernel, f"write {TRACING}/current_tracer nop")
        sends(kernel, *ids)
        assert kernel.verify().ok
        assert kernel.verify().kernel_changes == ()
    assert set(states(kernel).values()) == {PatchState.ACTIVE}


def test_a_kprobe_at_a_patched_site(kernel: Kernel) -> None:
    """The kernel's probe takes the splice for the instruction: both count, and the patch outlives it."""
    site, beside = sites(kernel, "udp_sendmsg")[3:5]
    patch, other = kernel.patch(site, COUNT), kernel.patch(beside, COUNT)
    offset = site - kernel["udp_sendmsg"].address
    told(kernel, f"write {TRACING}/kprobe_events p:here udp_sendmsg+{offset}")
    told(kernel, f"write {TRACING}/events/kprobes/here/enable 1")
    sends(kernel, patch.id, other.id)
    assert states(kernel) == {patch.id: PatchState.DAMAGED, other.id: PatchState.ACTIVE}
    found = kernel.verify()
    assert (found.ok, found.mismatched) == (True, ())
    change = next(change for change in found.kernel_changes if change.address == site)
    assert (change.kind, change.patches) == (PROBED, (patch.id,))
    assert sum(change.kind == DETOUR for change in found.kernel_changes) <= 1  # not a line for each word
    with pytest.raises(Refused, match="damaged"):
        patch.remove()
    told(kernel, f"write {TRACING}/events/kprobes/here/enable 0")
    for _ in range(20):  # the kernel takes its time
        sends(kernel, patch.id, other.id)
        if states(kernel)[patch.id] is PatchState.ACTIVE:
            break
    assert states(kernel) == {patch.id: PatchState.ACTIVE, other.id: PatchState.ACTIVE}
    told(kernel, f"write {TRACING}/kprobe_events -:here")
    patch.remove()
    other.remove()
    assert kernel.verify().ok


def test_a_site_with_a_kprobe(kernel: Kernel) -> None:
    """It is the kernel's while the probe is there, as a trap or a branch; patches beside it count on."""
    before, site, behind = sites(kernel, "udp_sendmsg")[4:7]
    offset, own = site - kernel["udp_sendmsg"].address, int(kernel.words(site, 1)[0])
    beside = [kernel.patch(at, COUNT).id for at in (before, behind)]
    told(kernel, f"write {TRACING}/kprobe_events p:there udp_sendmsg+{offset}")
    told(kernel, f"write {TRACING}/events/kprobes/there/enable 1")
    seen = set()
    for _ in range(2):
        seen.add(int(kernel.words(site, 1)[0]))
        with pytest.raises(Refused) as refused:
            kernel.patch(site, COUNT)
        assert refused.value.rule == "rewritten"
        found = kernel.verify()
        assert (found.ok, [one.kind for one in found.kernel_changes if one.address == site]) == (
            True,
            [PROBED],
        )
        sends(kernel, *beside)  # the kernel makes a branch of the trap meanwhile
    assert own not in seen
    told(kernel, f"write {TRACING}/events/kprobes/there/enable 0")
    told(kernel, f"write {TRACING}/kprobe_events -:there")  # which waits until it is gone
    assert int(kernel.words(site, 1)[0]) == own
    sends(kernel, *beside, kernel.patch(site, COUNT).id)
    assert kernel.verify().ok


def switched(kernel: Kernel) -> set[int]:
    """Return the jump labels that are not as in the kernel's file; nothing else may be otherwise."""
    found = kernel.verify()
    assert found.ok
    return {change.address for change in found.kernel_changes if change.kind == JUMP_LABEL}


def test_jump_labels_are_switched_between_patches(kernel: Kernel) -> None:
    """All that may be patched around each label of an event stays, counts, and does what it did."""
    told(kernel, f"write {EVENT} 1")
    labels = switched(kernel)  # of this event, and of those that go with any
    told(kernel, f"write {EVENT} 0")
    assert switched(kernel) == set()
    around = sorted({at + step for at in labels for step in range(-32, 36, 4)} - {*labels})
    batch = kernel.patch_all(around, COUNT)
    assert len(batch.patches) > 8 * len(labels) > 8
    told(kernel, "resume")
    for on in (1, 0) * 3:
        told(kernel, f"write {EVENT} {on}")
        assert switched(kernel) == (labels if on else set())
        position = kernel.log.position()
        assert kernel.log.wait(r"selfcheck: \d+ ok, 0 bad", since=position, deadline=120)
    assert set(states(kernel).values()) == {PatchState.ACTIVE}
    assert sum(bool(patch.hits) for patch in kernel.patches) > len(labels)
    told(kernel, "pause")
