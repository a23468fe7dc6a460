"""What the client orders from the kernel component, and how an order fails."""

from __future__ import annotations

from typing import NamedTuple

from kgdbpatch.component.layout import Op
from kgdbpatch.errors import TargetLost

__all__ = ["Command", "StubFailed"]


class StubFailed(TargetLost):
    """Command number ``index`` failed in the guest, after ``done`` parts; ``result`` is what it found."""

    def __init__(self, index: int, op: Op, result: int, done: int) -> None:
        self.index, self.op, self.result, self.done = index, op, result, done
        super().__init__(f"the kernel component could not do {op.name.lower()} (found 0x{result:08x})")


class Command(NamedTuple):
    """One order to the stub; operands as in stub.S of the CPU family."""

    op: Op
    a: int
    b: int = 0
    c: int = 0
