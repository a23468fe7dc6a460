"""Write the kernel's own data for a user: at once through shared RAM, or compared and written in one stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.vm.ram import Readable, Shared

if TYPE_CHECKING:
    from kgdbpatch.component.client import ComponentClient
    from kgdbpatch.component.ports import Session
    from kgdbpatch.personality.base import ArenaPlan

__all__ = ["Exchanged", "change_memory"]

_AT_ONCE = (1, 2, 4, 8)  # bytes that a CPU sees changed all or not at all, at a multiple of that

Spans = Sequence[tuple[int, int]]  # physical address, bytes


class Exchanged(NamedTuple):
    """What memory held before and holds now; how long (seconds) the guest stood still for it."""

    before: bytes
    after: bytes
    pause: float


def change_memory(
    component: ComponentClient,
    ram: Readable,
    spans: Spans,
    change: Callable[[bytes], bytes],
    *,
    compared: bool = False,
    code: ArenaPlan | None = None,
) -> Exchanged:
    """Change what lies in pieces of RAM to what ``change`` makes of it; its errors leave all as it was.

    With ``compared`` nothing happens between its look and the write: the guest is stopped. It is too unless
    that is one number. Of ``code`` the caches are flushed by the component in that arena.
    """
    whole = len(spans) == 1 and spans[0][1] in _AT_ONCE and spans[0][0] % spans[0][1] == 0
    if whole and not compared and code is None and isinstance(ram, Shared):
        before = ram.read(*spans[0])
        after = change(before)
        ram.write(spans[0][0], after)
        return Exchanged(before, after, 0.0)
    if code is not None:
        with component.stop(code, anywhere=True) as stop:
            before, after = _exchange(stop.session, spans, change)
            stop.call([Command(Op.FLUSH, physical, size) for physical, size in spans])
    else:
        with component.halted() as session:
            before, after = _exchange(session, spans, change)
    return Exchanged(before, after, component.pause)


def _exchange(session: Session, spans: Spans, change: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
    before = b"".join(session.read_physical(*span) for span in spans)
    after, at = change(before), 0
    assert len(after) == len(before)
    for physical, size in spans:
        session.write_physical(physical, after[at : at + size])
        at += size
    return before, after
