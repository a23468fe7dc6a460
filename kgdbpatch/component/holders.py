"""Say what holds a removed patch's memory: threads that come back to it, patches that lead on to it.

The guest runs meanwhile, so this is for telling people; `ComponentClient.collect` is what decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.component.stages import begun
from kgdbpatch.component.table import Record
from kgdbpatch.personality.base import Thread
from kgdbpatch.results import Holder, PatchState

__all__ = ["holders", "returns"]

_FRAMES = 128  # of a stack, at most
_LR_SLOTS = (4, 8)  # offsets of the saved LR in the caller's frame: System V's, Darwin's (isa/abi.py)


def returns(
    frame: int, end: int, word: Callable[[int], int | None], slots: Iterable[int] = _LR_SLOTS
) -> Iterator[tuple[int, int]]:
    """Yield (address of the stack's word, return address) from an innermost frame on, up to ``end``."""
    for _ in range(_FRAMES):
        above = word(frame)
        if above is None or not frame < above < end or above % 4:
            return
        for offset in slots:
            found = word(above + offset)
            if found is not None:
                yield above + offset, found
        frame = above


def _ranges(record: Record) -> list[range]:
    found = [range(record.body, record.body + record.body_size)]
    if record.springboard is not None:
        size = SPRINGBOARD_SIZE * record.springboard_slots
        found.append(range(record.springboard, record.springboard + size))
    return found


def holders(
    arena: Arena,
    records: Sequence[Record],
    threads: Iterable[Thread],
    word: Callable[[int], int | None],
    contexts: Iterable[tuple[int, int]],
) -> dict[int, tuple[Holder, ...]]:
    """Return id ─► holders of the retired ones of ``records``.

    ``word`` reads kernel memory; ``contexts`` are the (kernel address, pc) of interrupted ones.
    """
    retired = {record.id: _ranges(record) for record in records if record.state is PatchState.RETIRED}
    known = list(threads)
    found = [
        Holder(thread.name, at, address)
        for thread in known
        for at, address in returns(thread.sp, thread.stack.end, word)
    ]
    for at, pc in contexts:
        owner = next((thread for thread in known if thread.stack.start <= at < thread.stack.end), None)
        found.append(Holder(owner.name if owner else "a thread", at, pc))
    for record in records:
        if record.onward and record.state is PatchState.ACTIVE:
            found.append(Holder(f"patch {record.id}", None, arena.onward(record)[0]))
    for record in records:
        if record.id in retired and begun(arena, record):
            found.append(Holder("exit calls that were not made", None, record.body))
    return {
        patch: tuple(holder for holder in found if any(holder.address in part for part in ranges))
        for patch, ranges in retired.items()
    }
