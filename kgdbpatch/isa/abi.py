"""The calling conventions: Darwin's (Mac OS X ABI Function Call Guide) and System V's (PowerPC, 3)."""

from __future__ import annotations

from typing import NamedTuple

from kgdbpatch.isa.registers import STATE, mask, span

__all__ = ["ABI", "DARWIN", "SYSV"]


class ABI(NamedTuple):
    """Masks of what a function may change, is given, returns and keeps; sizes of its frames in bytes.

    ``linkage`` is the smallest legal frame, ``lr_offset`` where LR is saved in the caller's, ``indirect``
    what a callee reached through a pointer may expect besides its arguments.
    """

    name: str
    volatile: int
    args: int
    returns: int
    preserved: int
    indirect: int
    red_zone: int
    linkage: int
    lr_offset: int


# XER[SO] and FPSCR are sticky: a callee adds to them, so they outlive a call. The state that no
# compiler allocates is preserved in the sense that matters here: it is somebody else's.
_STICKY = mask("so", "fpscr") | STATE
_CALLER_SAVED = mask("r0", "lr", "ctr", "ca", "ov", "f0", "cr0", "cr1", "cr5", "cr6", "cr7")
_KEPT = span("r", 14, 31) | span("f", 14, 31) | span("cr", 2, 4) | mask("r1", "r2", "r13") | _STICKY

# CR bit 6 (in cr1) tells a variadic callee whether floating-point registers hold arguments.
SYSV = ABI(
    name="sysv",
    volatile=_CALLER_SAVED | span("r", 3, 12) | span("f", 1, 13),
    args=span("r", 3, 10) | span("f", 1, 8) | mask("cr1"),
    returns=mask("r3", "r4", "f1", "f2"),
    preserved=_KEPT,
    indirect=mask("r11", "r12"),
    red_zone=0,
    linkage=8,
    lr_offset=4,
)

# r2 is volatile for Darwin's compiler but belongs to the system in every kernel seen; never free.
_DARWINS = span("r", 3, 10) | span("f", 1, 13)
DARWIN = SYSV._replace(name="darwin", args=_DARWINS, red_zone=224, linkage=56, lr_offset=8)
