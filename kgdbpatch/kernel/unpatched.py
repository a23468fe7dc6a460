"""Guests that were booted without the kernel component: why nothing can be patched in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kgdbpatch.errors import Refused, TargetLost, TargetTimeout, WrongKernel
from kgdbpatch.vm.qemu import Qemu

__all__ = ["error", "note", "reason"]

_KEY = "unpatchable"  # in a guest's record


def _noted(qemu: Qemu) -> Mapping[str, Any] | None:
    kept = qemu.metadata.get(_KEY)
    return kept if isinstance(kept, dict) else None


def note(qemu: Qemu, error: Refused | WrongKernel | TargetTimeout) -> None:
    """Keep why the component was not installed; a kernel that could not be asked for room has none.

    Without a ``rule`` another kernel runs than that of the file.
    """
    rule = error.rule if isinstance(error, Refused) else None if isinstance(error, WrongKernel) else "mapping"
    qemu.note(**{_KEY: {"rule": rule, "reason": str(error)}})


def reason(qemu: Qemu) -> str | None:
    """Return why no patches can be put into a guest; None where they can."""
    noted = _noted(qemu)
    return None if noted is None else noted["reason"]


def error(qemu: Qemu) -> Refused | WrongKernel | TargetLost:
    """Return what to raise when the component is asked for that a guest does not carry."""
    noted = _noted(qemu)
    if noted is None:
        again = "detach it and attach" if qemu.foreign else "boot it"
        told = f"guest '{qemu.name}' carries no kernel component; was it reset? {again} again"
        return TargetLost(told)
    told = f"guest '{qemu.name}' runs without patches: {noted['reason']}"
    return WrongKernel(told) if noted["rule"] is None else Refused(noted["rule"], told)
