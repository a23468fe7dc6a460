"""What families' machine state registers have in common: two bits by which addresses are translated."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KernelSpace"]


class KernelSpace(NamedTuple):
    """The bits of the MSR that choose how addresses are translated, as they are where the kernel is mapped.

    They are two of its lower 16: for instructions, and for data. Which, only the CPU's family knows.
    """

    bits: tuple[int, int]
    on: int

    def wanted(self) -> tuple[int, ...]:
        """Return each bit's value where the kernel is mapped."""
        return tuple(int(bool(self.on & bit)) for bit in self.bits)
