"""Change a PowerPC kernel while it runs in ``qemu-system-ppc``.

>>> from kgdbpatch import Kernel
>>> with Kernel.boot("darwin") as kernel, kernel.patch("run_netisr", count=True) as patch:
...     print(patch.hits)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kgdbpatch.errors import (
        BadImage,
        BadPatch,
        DeadKernel,
        KgdbPatchError,
        Misuse,
        Refused,
        TargetBusy,
        TargetLost,
        TargetTimeout,
    )
    from kgdbpatch.kernel import Kernel, Patch
    from kgdbpatch.patch.request import PatchRequest

__version__ = "0.1.0"
__all__ = [
    "BadImage",
    "BadPatch",
    "DeadKernel",
    "Kernel",
    "KgdbPatchError",
    "Misuse",
    "Patch",
    "PatchRequest",
    "Refused",
    "TargetBusy",
    "TargetLost",
    "TargetTimeout",
]

_HOMES = {
    "Kernel": "kgdbpatch.kernel",
    "Patch": "kgdbpatch.kernel",
    "PatchRequest": "kgdbpatch.patch.request",
}


def __getattr__(name: str) -> object:
    """Import what is asked for on first use: a command loads no more than it needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "kgdbpatch.errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
