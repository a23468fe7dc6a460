"""What the kernel rewrites of its own text is told by name, and told from damage."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.running import RunningText
from kgdbpatch.patch.rewritten import CALL_TARGET, STATIC_CALL
from kgdbpatch.personality.linux.rewritten import rewritten

from .parts import write
from .work import empty

EVENT = "/sys/kernel/tracing/events/timer/timer_start/enable"
SITE = "__SCT__tp_func_timer_start"


def trace(kernel: Kernel, on: bool) -> None:
    mark = kernel.log.position()
    kernel.send(f"write {EVENT} {int(on)}\n")
    line = kernel.log.wait(r"^(done|failed) write", since=mark, deadline=60)
    assert line.message.startswith("done"), line.message


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_all_that_linux_has_rewritten_is_known(kernel: Kernel) -> None:
    """While it booted, the kernel changed hundreds of words: each is found, or a kprobe of the kernel's."""
    known = rewritten(kernel.image)
    others = {
        kernel.image.symbolize(at).partition("+")[0] for at in kernel.header.baseline.keys() - known.keys()
    }
    assert len(kernel.header.baseline) > 100
    trampolines = {
        "__kretprobe_trampoline",
        "arch_rethook_trampoline",
        "ftrace_tramp_text",
        "ftrace_tramp_init",
    }
    assert others <= {"optinsn_slot", *trampolines}
    for address in sorted(kernel.header.baseline)[::50]:
        with pytest.raises(Refused):
            kernel.site_checker.site(address)


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_a_static_call_that_linux_sets(kernel: Kernel) -> None:
    trace(kernel, on=True)
    verified = kernel.verify()
    assert verified.ok
    assert verified.mismatched == ()
    change = next(change for change in verified.kernel_changes if change.symbol == SITE)
    assert change.address == kernel.resolve(SITE)
    assert (change.kind, change.patches) == (STATIC_CALL, ())
    assert change.text.startswith("the kernel set static call tp_func_timer_start")
    trace(kernel, on=False)
    verified = kernel.verify()
    assert (verified.ok, verified.kernel_changes) == (True, ())


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_linux_overwrites_a_forced_patch(kernel: Kernel) -> None:
    with pytest.raises(Refused) as refused:
        kernel.patch(SITE, count=True)
    assert refused.value.rule == "rewritten"
    made = kernel.patch(SITE, count=True, force=True)
    assert made.forced == kernel.patches[0].forced == ("rewritten",)
    assert kernel.verify().kernel_changes == ()
    trace(kernel, on=True)
    verified = kernel.verify()
    assert verified.ok
    change = next(change for change in verified.kernel_changes if change.symbol == SITE)
    assert change.patches == (made.id,)
    assert f"it overwrote patch {made.id}" in change.text
    assert kernel.patches[0].state == "damaged"


@pytest.mark.linux
@pytest.mark.kernel("linux")
def test_damage_of_such_words_is_damage(kernel: Kernel) -> None:
    """No kernel writes an addition there; nor does anything but a kernel's own table make it a change."""
    words = {site: what.kind for site, what in rewritten(kernel.image).items()}
    target = next(site for site, kind in words.items() if kind == CALL_TARGET)
    places = {
        kernel.resolve(SITE): 0x3863_0001,
        target: 0x1234_5671,
        kernel.site_checker.entry(kernel.resolve("panic")): 0x6000_0000,
    }
    kept = {place: int(kernel.words(place, 1)[0]) for place in places}
    for place, word in places.items():
        write(kernel, place, word)
        verified = kernel.verify()
        write(kernel, place, kept[place])
        assert (verified.ok, verified.mismatched, verified.kernel_changes) == (False, (place,), ())
    assert kernel.verify().ok


def test_another_client_patches_while_one_verifies(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch table is read first, the text then: another client's patch comes in between."""
    other = Kernel.attach(kernel.name)
    compare, said = RunningText.differences, list[int]()

    def differences(text: RunningText) -> dict[int, int]:
        if not said:
            said.append(other.patch("run_netisr", count=True).id)
        elif len(said) == 1:
            other.remove(said[0])
            said.append(said[0])
        return compare(text)

    monkeypatch.setattr(RunningText, "differences", differences)
    verified = kernel.verify()
    assert (verified.ok, verified.mismatched) == (True, ())
    assert len(said) == 2
    other.close()
    empty(kernel)
