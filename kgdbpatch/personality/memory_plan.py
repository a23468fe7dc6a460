"""Where a guest's memory for patches is, and where its kernel sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MIB", "ArenaPlan", "MemoryPlan", "Window"]

MIB = 1 << 20


class Window(NamedTuple):
    """A range of guest virtual addresses, ``start`` inclusive, ``end`` exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """Where memory for patches lies and where patched code shall see it.

    ``physical`` and ``size`` in bytes; ``virtual`` is a multiple of ``size`` (one BAT block).
    ``springboards`` is a page-aligned virtual window within reach of ``ba`` that the kernel
    leaves unmapped, or None where the arena itself is within reach of the text. ``near`` is a
    window within reach of ``ba`` through which the arena's last bytes are seen a second time, and
    ``tails`` one through which the exception vectors are, from physical address 0 on.
    """

    physical: int
    size: int
    virtual: int
    springboards: Window | None = None
    near: Window | None = None
    tails: Window | None = None
    paged: bool = False  # the kernel's own page tables map some of it: any access may fault for an instant
    linear: bool = False  # the kernel's own linear map shows it; only where code is fetched is mapped for us

    @property
    def near_shift(self) -> int:
        """Return what is added to an address in the arena to get that in the near window."""
        assert self.near is not None
        return self.near.end - (self.virtual + self.size)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How RAM is shared, in MiB: ``memory`` is what QEMU gives, ``announced`` what the kernel is told of.

    What lies between is hidden: the arena's. Without it there can be ``borrowed`` bytes from
    ``borrowed_at`` on (physical), which the kernel's own allocator gave; they are to be seen ``elsewhere``
    than where its linear map shows them, where no code could be executed.
    """

    memory: int = 288
    announced: int = 256
    borrowed_at: int = 0
    borrowed: int = 0
    elsewhere: bool = False

    @property
    def linear(self) -> bool:
        """Whether the kernel's linear map shows the arena's data."""
        return bool(self.borrowed) and not self.elsewhere

    @property
    def arena_at(self) -> int:
        """The physical address of the arena."""
        return self.borrowed_at if self.borrowed else self.announced * MIB

    @property
    def arena_size(self) -> int:
        """The size of the arena in bytes, 0 without one."""
        return self.borrowed or (self.memory - self.announced) * MIB
