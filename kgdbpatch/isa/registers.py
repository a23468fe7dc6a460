"""Name the machine state that instructions read and write: bit *i* of a mask stands for ``REGISTERS[i]``.

First those of the public interface, then coarse privileged state, which is never handed out as free.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = [
    "ALL",
    "CRS",
    "FPRS",
    "GPRS",
    "REGISTERS",
    "SPE",
    "STATE",
    "TRACKED",
    "VECTORS",
    "bit",
    "mask",
    "names",
    "span",
]

_TRACKED_NAMES: tuple[str, ...] = (
    *(f"r{n}" for n in range(32)),
    *(f"f{n}" for n in range(32)),
    *(f"cr{n}" for n in range(8)),
    "lr",
    "ctr",
    "ca",
    "ov",
    "so",
    "fpscr",
)

# string: XER[25:31], the byte count of lswx/stswx. sr: the sixteen segment registers.
# spr: every special register without a name of its own. reservation: what lwarx sets.
_STATE_NAMES: tuple[str, ...] = ("string", "msr", "srr0", "srr1", "sr", "spr", "tb", "tlb", "reservation")

# AltiVec's, which the 74xx alone have. They stand last, and are no part of `ALL`: an instruction that is not
# known reads `ALL`, and no patch ever uses them (see `patch.payload`).
_VECTOR_NAMES: tuple[str, ...] = (*(f"v{n}" for n in range(32)), "vscr", "vrsave")

# SPE's, which the e500 alone has: the upper halves of r0 to r31, the accumulator and SPEFSCR, all in one.
# It stands where AltiVec's do, for the same reasons.
_SPE_NAMES: tuple[str, ...] = ("spe",)

REGISTERS: tuple[str, ...] = _TRACKED_NAMES + _STATE_NAMES + _VECTOR_NAMES + _SPE_NAMES

_BIT = {name: index for index, name in enumerate(REGISTERS)}


def bit(name: str) -> int:
    """Return the bit number of a register."""
    return _BIT[name]


def mask(*registers: str) -> int:
    """Return the mask of the named registers."""
    result = 0
    for name in registers:
        result |= 1 << _BIT[name]
    return result


def names(registers: int) -> list[str]:
    """Return the names in a mask, in the order of ``REGISTERS``."""
    return list(_names(registers))


@lru_cache(maxsize=1 << 14)
def _names(registers: int) -> tuple[str, ...]:
    return tuple(name for index, name in enumerate(REGISTERS) if registers >> index & 1)


def span(prefix: str, first: int, last: int) -> int:
    """Return the mask of the registers ``first`` to ``last`` of a kind: ``r``, ``f``, ``cr``, ``v``."""
    return mask(*(f"{prefix}{n}" for n in range(first, last + 1)))


GPRS: int = span("r", 0, 31)
FPRS: int = span("f", 0, 31)
CRS: int = span("cr", 0, 7)
TRACKED: int = mask(*_TRACKED_NAMES)
STATE: int = mask(*_STATE_NAMES)
ALL: int = TRACKED | STATE
VECTORS: int = mask(*_VECTOR_NAMES)
SPE: int = mask(*_SPE_NAMES)
