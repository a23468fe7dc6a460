"""Let the guest's workload go on, and take everything out of it."""

from __future__ import annotations

from kgdbpatch.kernel import Kernel

__all__ = ["beat", "empty"]


def beat(kernel: Kernel) -> None:
    """Let the guest check itself once, with nothing bad."""
    line = kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
    assert line.message.rstrip().endswith(" 0 bad")


def empty(kernel: Kernel) -> None:
    """Take everything out; memory is free once nothing refers to it: SRR0 may still, or a thread."""
    for _ in range(10):
        if not kernel.remove_all():
            return
        beat(kernel)
