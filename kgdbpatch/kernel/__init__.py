"""The facade: one `Kernel` that everything hangs on, and what answers for one kernel, running or not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.patch import Batch, Patch
    from kgdbpatch.kernel.removal import Removal
    from kgdbpatch.results import Check, KernelChange, LiveRegisters, Verification

__all__ = ["Batch", "Check", "Kernel", "KernelChange", "LiveRegisters", "Patch", "Removal", "Verification"]

_HOMES = {"Patch": "patch", "Batch": "patch", "Kernel": "kernel", "Removal": "removal"}


def __getattr__(name: str) -> object:
    """Import what is asked for on first use: commands that need no guest load no more than they need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}" if name in _HOMES else "kgdbpatch.results"
    return getattr(import_module(home), name)
