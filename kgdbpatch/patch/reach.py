"""Get from one address to another: a branch, free registers, or registers kept on the way (paper 3.3.4)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kgdbpatch.isa import encode
from kgdbpatch.patch.site import Site

__all__ = ["Springboard", "free_gprs", "jump", "springboard"]

# In the order in which we like to take them; r0 is no base and cannot be added to.
_LIKED = (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 0, *range(31, 13, -1))
_SPILLED = 12  # the register taken where none is free

_TO = {"ctr": encode.mtctr, "lr": encode.mtlr}
_FROM = {"ctr": encode.mfctr, "lr": encode.mflr}
_GO = {"ctr": encode.bctr, "lr": encode.blr}


@lru_cache(maxsize=1 << 14)
def free_gprs(free: frozenset[str]) -> tuple[int, ...]:
    """Return the general-purpose registers in ``free``, the one best given away first."""
    return tuple(number for number in _LIKED if f"r{number}" in free)


def _direct(at: int, to: int) -> int | None:
    if encode.branch_reaches(at, to):
        return encode.b(at, to)
    return encode.ba(to) if encode.absolute_reaches(to) else None


def _through(register: int, holder: str, to: int) -> list[int]:
    return [*encode.load_address(register, to), _TO[holder](register), _GO[holder]()]


def jump(at: int, to: int, free: frozenset[str]) -> list[int] | None:
    """Return the words at ``at`` that go to ``to``: one branch, or through free registers, or None."""
    branch = _direct(at, to)
    if branch is not None:
        return [branch]
    registers = free_gprs(free)
    holder = next((name for name in _TO if name in free), None)
    return _through(registers[0], holder, to) if registers and holder else None


class Springboard(NamedTuple):
    """Words that go to a body, at most eight; those that undo what they did; the registers they keep."""

    words: list[int]
    undo: list[int]
    saved: tuple[str, ...] = ()


def springboard(at: int, to: int, site: Site, free: frozenset[str]) -> Springboard:
    """Return the springboard at ``at`` to the body at ``to``; ``free`` are the registers free there.

    Others that it needs are kept in free ones, else on the stack; `Refused` (``stack``) where it is none.
    """
    plain = jump(at, to, free)
    if plain is not None:
        return Springboard(plain, [])
    registers = free_gprs(free)
    holders = [name for name in _TO if name in free]
    if not holders and len(registers) > 1:
        go, kept = registers[:2]
        return Springboard([_FROM["ctr"](kept), *_through(go, "ctr", to)], [_TO["ctr"](kept)], ("ctr",))
    if len(holders) > 1:
        return Springboard(
            [_TO["lr"](_SPILLED), *_through(_SPILLED, "ctr", to)], [_FROM["lr"](_SPILLED)], (f"r{_SPILLED}",)
        )
    go = registers[0] if registers else _SPILLED
    frame = site.spill(go, go)  # the register, and CTR by way of it
    words, undo = [frame.enter()], []
    if not holders:
        words += [] if registers else [frame.keep(0)]
        words += [_FROM["ctr"](go), frame.keep(1)]
        undo = [frame.reload(1), _TO["ctr"](go)]
    else:
        words.append(frame.keep(0))
    undo += [] if registers else [frame.reload(0)]
    words += _through(go, holders[0] if holders else "ctr", to)
    saved = (*(() if registers else (f"r{go}",)), *(() if holders else ("ctr",)))
    return Springboard(words, [*undo, frame.leave()], saved)
