"""Count the calls of functions that are under way, by the frames that patches at their exits have made.

Stacks are followed by their back chains. A frame of such a patch ends with a mark (patch/exits.py), which is
there from before the entry is counted until the exit is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kgdbpatch.patch.exits import MARK
from kgdbpatch.results import PatchRow
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.vm.gdb import Session

__all__ = ["calls_inside", "rows_with_calls"]

_FRAMES = 1024  # of a stack, at most
_LARGEST = 1 << 16  # bytes of a frame


def calls_inside(
    starts: Iterable[int], bodies: Collection[int], word: Callable[[int], int | None]
) -> Counter[int]:
    """Return how many calls are under way, by the body of the patch that they came through.

    ``starts`` are the stack pointers of all threads and CPUs, ``word`` reads kernel memory.
    """
    found, seen, marks = Counter[int](), set[int](), set[int]()
    for frame in starts:
        for _ in range(_FRAMES):
            above = word(frame) if frame not in seen and not frame % 4 else None
            seen.add(frame)
            if above is None:
                break
            mark = word(above + MARK) if frame < above < frame + _LARGEST else None
            if mark is not None and mark in bodies and above not in marks:
                marks.add(above)
                found[mark] += 1
            frame = above  # that of another stack where an interrupt changed stacks
    return found


def _stack_pointers(session: Session, cpu: Cpu) -> Iterator[int]:
    """Yield the stack pointers of the CPUs that run the kernel."""
    for number in range(session.cpus):
        session.select(number)
        registers = GRegisters(session.read_all())
        if not cpu.in_process(registers["msr"]):
            yield registers["r1"]


def rows_with_calls(kernel: Kernel) -> list[PatchRow]:
    """Return the entries of a kernel's patch table with what became of the calls through patches at exits.

    The guest stands still meanwhile, where some of the calls are open.
    """
    rows = kernel.patch_table()
    if all(row.exits in (None, row.hits) for row in rows):
        return [row if row.exits is None else replace(row, inside=0, unreturned=0) for row in rows]
    threads = kernel._threads
    with kernel.stopped() as session:
        rows = kernel.patch_table()
        bodies = {record.body: record.id for record in kernel.records() if record.exits is not None}
        pointers = [*_stack_pointers(session, kernel._cpu), *(thread.sp for thread in threads.all())]
        inside = calls_inside(pointers, bodies, threads.word)
    found = {bodies[body]: count for body, count in inside.items()}
    return [_with_calls(row, found.get(row.id, 0)) for row in rows]


def _with_calls(row: PatchRow, inside: int) -> PatchRow:
    if row.exits is None or row.hits is None:
        return row
    open_calls = row.hits - row.exits & 0xFFFF_FFFF
    inside = min(inside, open_calls)  # a frame is made before its call is counted
    return replace(row, inside=inside, unreturned=open_calls - inside)
