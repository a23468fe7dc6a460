"""Name the patches that a CPU does not leave: one whose payload loops for ever, for instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kgdbpatch.answers import Holder
from kgdbpatch.component.arena import Arena
from kgdbpatch.target.cpus import Glance, glances
from kgdbpatch.target.qemu import Qemu

__all__ = ["cpus_inside"]

_GLANCES = 8
_INSIDE = 6  # of them; at the others a handler may run, or a function be about to make its frame
_DEADLINE = 5.0  # seconds for another client to let go of QEMU's monitor
_FRAMES, _DEEPEST = 64, 0x1_0000  # of a stack: frames, and bytes between the first and the last
_LR_SLOTS = (4, 8)  # offsets of the saved LR in the caller's frame: System V's, Darwin's (isa/abi.py)


def _places(glance: Glance, word: Callable[[int], int | None]) -> Iterator[tuple[int | None, int]]:
    """Yield (address of the stack's word, address at which a CPU goes on); first its pc, None."""
    yield None, glance.pc
    frame = glance.sp
    for _ in range(0 if glance.user else _FRAMES):
        above = word(frame)
        if above is None or not frame < above < glance.sp + _DEEPEST or above % 4:
            return
        for offset in _LR_SLOTS:
            found = word(above + offset)
            if found is not None:
                yield above + offset, found
        frame = above


def cpus_inside(qemu: Qemu, arena: Arena, word: Callable[[int], int | None]) -> dict[int, tuple[Holder, ...]]:
    """Return, by id, the CPUs that were inside an active patch at nearly all of some moments.

    A patch that was hit meanwhile was left. ``word`` reads kernel memory. Raises `TargetTimeout` when
    another client holds QEMU's monitor.
    """
    records = [record for record in arena.records() if record.status == "active"]
    if not records:
        return {}
    moments = glances(qemu, _GLANCES, _DEADLINE)
    hits = {record.id: record.hits for record in arena.records()}
    found: dict[int, tuple[Holder, ...]] = {}
    for record in records:
        body = range(record.body, record.body + record.constant_size)
        if hits.get(record.id) != record.hits:
            continue
        for number in range(min(map(len, moments), default=0)):
            seen = [
                next((place for place in _places(moment[number], word) if place[1] in body), None)
                for moment in moments
            ]
            inside = [place for place in seen if place is not None]
            if len(inside) >= _INSIDE:
                found[record.id] = (*found.get(record.id, ()), Holder(f"CPU {number}", *inside[-1]))
    return found
