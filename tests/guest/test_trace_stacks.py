"""Stacks in traces: what the guest walks is what `bt` finds at a stop in the same place."""

from __future__ import annotations

import pytest

from kgdbpatch.kernel import Kernel
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.tracing.stacks import MOST

from .work import empty

LINUX = [pytest.mark.kernel("linux"), pytest.mark.linux]
BUSY = [
    pytest.param("strlen", marks=pytest.mark.kernel("darwin"), id="darwin"),
    pytest.param("udp_sendmsg", marks=LINUX, id="linux"),
]


def between(kernel: Kernel, trace: Trace, site: int, frames: int = MOST) -> tuple[str, ...]:
    """Return the stack of `bt` at a stop at a site, after comparing it with that of the event there."""
    expected: tuple[str, ...] = ()
    found: list[object] = []
    for _ in range(5):
        with kernel.stopped() as session:
            session.run_to(site, 30)
            session.stays_stopped = True
        trace.events()
        (stack,) = kernel.backtrace(lines=False)
        expected = tuple(frame.symbol for frame in stack.frames if frame.kind != "process")[:frames]
        kernel.resume()
        while not (events := trace.events()):
            assert kernel.alive
        found = [event.values[0] for event in events]
        if found[0] == expected:
            return expected
    raise AssertionError((expected, found[0]))


@pytest.mark.parametrize("busy", BUSY)
def test_a_stack_is_what_bt_finds(kernel: Kernel, busy: str) -> None:
    with Trace(kernel, f"{busy} {{ print(stack(16)); @[stack(3)] = count() }}") as trace:
        stack = between(kernel, trace, kernel.resolve(busy))
        assert len(stack) > 2
        assert stack[0] == kernel.image.symbolize(kernel.resolve(busy))
        assert stack[:3] in {row.key[0] for row in trace.maps()}
    empty(kernel)
