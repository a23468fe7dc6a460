"""Stacks in traces: what the guest walks is what `bt` finds at a stop in the same place."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.results import FrameRow, TraceEvent
from kgdbpatch.tracing.stacks import MOST, Stack

from .work import beat, empty

LINUX = [pytest.mark.kernel("linux"), pytest.mark.linux]
DARWIN = [pytest.mark.kernel("darwin")]
BUSY = [
    pytest.param("strlen", marks=DARWIN, id="darwin"),
    pytest.param("udp_sendmsg", marks=LINUX, id="linux"),
]
_TRIES = 20


def told(kernel: Kernel, trace: Trace, site: int, frames: int = MOST) -> list[FrameRow]:
    """Stop at a site, compare the stack of `bt` with that of the event that comes next; return `bt`'s."""
    for _ in range(_TRIES):
        with kernel.stopped() as session:
            session.run_to(site, 60)
            session.stays_stopped = True
        trace.events()
        lost = trace.lost
        (stack,) = kernel.backtrace(lines=False)
        kernel.resume()
        events: list[TraceEvent] = []
        while not events:
            assert kernel.alive
            events = trace.events()
        rows = [frame for frame in stack.frames if frame.kind != "process"][:frames]
        if trace.lost > lost:  # the first one may be among them
            continue
        assert events[0].values[0] == tuple(frame.symbol for frame in rows)
        return rows
    raise AssertionError("all events came faster than they were read")


@pytest.mark.parametrize("busy", BUSY)
def test_a_stack_is_what_bt_finds(kernel: Kernel, busy: str) -> None:
    with Trace(kernel, f"{busy} {{ @[stack(3)] = count(); print(stack(16)) }}", slots=1 << 14) as trace:
        rows = told(kernel, trace, kernel.resolve(busy))
        assert len(rows) > 2
        assert tuple(frame.symbol for frame in rows[:3]) in {row.key[0] for row in trace.maps()}
    empty(kernel)


@pytest.mark.long
@pytest.mark.parametrize(
    "busy",
    [
        pytest.param("run_netisr", marks=DARWIN, id="darwin"),
        pytest.param("udp_sendmsg", marks=LINUX, id="linux"),
    ],
)
def test_wherever_a_function_is(kernel: Kernel, busy: str) -> None:
    """Before its frame is made, and behind."""
    compared = 0
    for offset in range(4, 0x20, 4):
        try:
            with Trace(kernel, f"{busy}+{offset} {{ print(stack) }}", slots=1 << 14) as trace:
                told(kernel, trace, kernel.resolve(busy) + offset, 8)
                compared += 1
        except Refused:
            continue
    assert compared > 3
    empty(kernel)


@pytest.mark.long
@pytest.mark.parametrize(
    "function",
    [
        pytest.param("thread_wakeup_one", marks=DARWIN, id="darwin"),
        pytest.param("update_process_times", marks=LINUX, id="linux"),
    ],
)
def test_what_an_interrupt_has_interrupted(kernel: Kernel, function: str) -> None:
    function = function if kernel.image.knows(function) else "thread_block"
    with Trace(kernel, f"{function} {{ print(stack(16)) }}", slots=1 << 14) as trace:
        for _ in range(_TRIES):
            rows = told(kernel, trace, kernel.resolve(function))
            if any(frame.kind == "interrupted" for frame in rows):
                break
        else:
            raise AssertionError(rows)
    empty(kernel)


@pytest.mark.long
@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        pytest.param("work_strings", "strlen", marks=DARWIN, id="darwin"),
        pytest.param("udp_sendmsg", "ip_make_skb", marks=LINUX, id="linux"),
    ],
)
def test_frames_of_patches_have_their_names(kernel: Kernel, outer: str, inner: str) -> None:
    with kernel.patch(outer, count=True, exit=True) as patch:
        with Trace(kernel, f"{inner} {{ print(stack(16)) }}", slots=1 << 14) as trace:
            for _ in range(_TRIES):
                rows = told(kernel, trace, kernel.resolve(inner))
                if any(frame.patch == patch.id for frame in rows):
                    break
            else:
                raise AssertionError(rows)
        beat(kernel)
    empty(kernel)


@pytest.mark.parametrize("busy", BUSY)
def test_at_returns_calls_and_of_several(kernel: Kernel, busy: str) -> None:
    several = {"strlen": "strl*", "udp_sendmsg": "udp_r*"}[busy]
    inner = {"strlen": "strlen", "udp_sendmsg": "ip_make_skb"}[busy]
    text = f"{inner}:return {{ @r[stack(3)] = count() }} {inner} {{ @e[stack(3)] = count() }}"
    text += f" ->{inner} {{ @c[stack(2)] = count() }} {several} {{ @s[stack(1), func] = count() }}"
    with Trace(kernel, text) as trace:
        beat(kernel, 2)
        keys: dict[str, set[tuple[object, ...]]] = {}
        for row in trace.maps():
            keys.setdefault(row.map, set()).add(row.key)
    for (first,) in keys["@r"]:
        assert isinstance(first, Stack)
        assert first[0] == kernel.image.symbolize(kernel.resolve(inner))
    # behind the exit's patch it is called by its entry's; but for that both are called by the same
    assert {stack[1:2] for (stack,) in keys["@r"]} & {  # type: ignore[index]
        (name,)
        for (stack,) in keys["@e"]
        for name in stack  # type: ignore[attr-defined]
    }
    assert all(len(stack) == 2 for (stack,) in keys["@c"])  # type: ignore[arg-type]
    assert {stack[0] for stack, _ in keys["@s"]} == {name for _, name in keys["@s"]}  # type: ignore[index]
    assert len(keys["@s"]) > 1
    beat(kernel)
    empty(kernel)


@pytest.mark.kernel("darwin")
def test_what_a_stack_is_not_for(kernel: Kernel) -> None:
    for text, about in [
        ("strlen { @ = sum(stack) }", "nothing else"),
        ("strlen { @x = stack }", "nothing else"),
        ("strlen if stack { count() }", "nothing else"),
        ("strlen { print(stack + 1) }", "nothing else"),
        ("strlen { print(stack(17)) }", "N up to 16"),
        ("strlen { print(stack(0)) }", "N up to 16"),
        ("strlen { print(stack(arg0)) }", "N up to 16"),
        ('strlen { printf("%d", stack) }', "goes with %s"),
        ("strlen { @[stack(2)] = count(); @[stack(3)] = count() }", "other keys"),
    ]:
        with pytest.raises(Misuse, match=about):
            Trace(kernel, text)
    empty(kernel)
