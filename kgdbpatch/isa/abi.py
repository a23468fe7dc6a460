"""Describe the two calling conventions: Darwin's and System V's for 32-bit PowerPC.

Sources: "Mac OS X ABI Function Call Guide", 32-bit PowerPC, and "System V ABI, PowerPC
Processor Supplement", chapter 3. Masks are over `kgdbpatch.isa.registers`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kgdbpatch.isa.registers import STATE, mask, span

__all__ = ["ABI", "DARWIN", "SYSV"]


@dataclass(frozen=True)
class ABI:
    """What a function may change, what it is given and what it must leave alone.

    ``volatile``, ``args``, ``returns`` and ``preserved`` are register masks; ``red_zone``,
    ``linkage`` (the smallest legal frame) and ``lr_offset`` (the place of the saved LR in the
    caller's frame) are bytes. ``indirect`` holds what a callee reached through a pointer may
    expect besides its arguments.
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
DARWIN = replace(SYSV, name="darwin", args=_DARWINS, red_zone=224, linkage=56, lr_offset=8)
