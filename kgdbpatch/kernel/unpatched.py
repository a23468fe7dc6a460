"""Guests that were booted without the kernel component: why nothing can be patched in them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from kgdbpatch.errors import Refused, TargetLost, TargetTimeout, WrongKernel
from kgdbpatch.vm.qemu import Qemu

__all__ = ["error", "note", "reason"]

_KEY = "unpatchable"  # in a guest's record


@dataclass(frozen=True, slots=True)
class _Noted:
    """Why the component was not installed; no ``rule``: another kernel runs than that of the file."""

    rule: str | None
    reason: str


def _noted(qemu: Qemu) -> _Noted | None:
    kept = qemu.metadata.get(_KEY)
    return _Noted(**kept) if isinstance(kept, dict) else None


def note(qemu: Qemu, error: Refused | WrongKernel | TargetTimeout) -> None:
    """Keep why the component was not installed; a kernel that could not be asked for room has none."""
    rule = error.rule if isinstance(error, Refused) else None if isinstance(error, WrongKernel) else "mapping"
    qemu.note(**{_KEY: asdict(_Noted(rule, str(error)))})


def reason(qemu: Qemu) -> str | None:
    """Return why no patches can be put into a guest; None where they can."""
    noted = _noted(qemu)
    return None if noted is None else noted.reason


def error(qemu: Qemu) -> Refused | WrongKernel | TargetLost:
    """Return what to raise when the component is asked for that a guest does not carry."""
    noted = _noted(qemu)
    if noted is None:
        again = "detach it and attach" if qemu.foreign else "boot it"
        told = f"guest '{qemu.name}' carries no kernel component; was it reset? {again} again"
        return TargetLost(told)
    told = f"guest '{qemu.name}' runs without patches: {noted.reason}"
    return WrongKernel(told) if noted.rule is None else Refused(noted.rule, told)
