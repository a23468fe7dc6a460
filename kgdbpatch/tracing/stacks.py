"""Stacks as values of a trace: what the guest has to be told to walk them, and how they are shown."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CALLED", "INTERRUPTED", "LINKED", "MOST", "USUAL", "Stack", "StackFacts", "frames_of"]

USUAL, MOST = 8, 16  # frames, where nobody says how many, and at most
CALLED, INTERRUPTED, LINKED = 0, 1, 2  # in the lowest bits: returned to; executed next; LR at that time
_PR = 0x4000  # of the MSR: a process was interrupted


class Stack(tuple[str, ...]):
    """The functions of a stack with offsets, the innermost first."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return it as it is printed: a line for each."""
        return "".join(f"\n    {name}" for name in self) + "\n"


class StackFacts(NamedTuple):
    """What walking a kernel's stacks takes.

    LR is saved ``lr`` bytes above a frame, or 4; where both may be, what points into ``code``, pairs of an
    address and a size, is taken. ``block``: as many bytes, a power of two, are mapped around a stack pointer.
    ``base`` is C for where the running thread's stack begins, which has ``size`` bytes. ``context`` has the
    offsets of r1, pc, LR, MSR and the exception's number in the frame of an exception.
    """

    lr: int
    code: tuple[tuple[int, int], ...]
    block: int
    base: str | None = None
    size: int = 0
    context: tuple[int, int, int, int, int] | None = None

    def macros(self) -> dict[str, object]:
        """Return the macros that the walk is written with, and what they stand for."""
        found: dict[str, object] = {
            "KGT_LR": self.lr,
            "KGT_CODE(at)": f"({' || '.join(f'(at) - {start}ul < {size}ul' for start, size in self.code)})",
            "KGT_BLOCK": f"{self.block}ul",
            "KGT_PR": f"{_PR}ul",
        }
        if self.base is not None:
            found |= {"KGT_STACK_BASE": f"({self.base})", "KGT_STACK_SIZE": f"{self.size}ul"}
        if self.context is not None:
            names = ("SP", "PC", "LINK", "MSR", "TRAP")
            found |= {f"KGT_SAVED_{name}": at for name, at in zip(names, self.context, strict=True)}
        return found


def frames_of(kind: str) -> int:
    """Return how many frames a value of a kind has; 0 where it is no stack."""
    return int(kind.removeprefix("stack")) if kind.startswith("stack") else 0
