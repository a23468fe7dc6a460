"""What families' machine state registers have in common: two bits by which addresses are translated."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KernelSpace"]


class KernelSpace(NamedTuple):
    """The bits of the MSR that choose the translation of instructions and of data, as the kernel has them."""

    bits: tuple[int, int]
    on: int

    def wanted(self) -> tuple[int, ...]:
        """Return each bit's value where the kernel is mapped."""
        return tuple(int(bool(self.on & bit)) for bit in self.bits)
