"""Move an instruction into a patch body with its effect unchanged (paper 3.2.4, 3.3.1).

The paper refuses every PC-relative instruction. Here a branch is rewritten to reach its old
target from its new place, and a displaced call leaves the original return address in LR, so
that back-traces stay true. What cannot be moved is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Instruction, Kind

__all__ = ["Displaced", "displace", "jump"]

_SCRATCH = (12, 11, 0, 10, 9, 8, 7, 6, 5, 4, 3)  # in the order in which we like to take them


@dataclass(frozen=True, slots=True)
class Displaced:
    """The moved instruction: its ``words``, and whether control can fall out of their end."""

    words: tuple[int, ...]
    falls_through: bool


def free_gpr(free: frozenset[str]) -> int | None:
    """Return the general-purpose register of ``free`` best given away, or None."""
    return next((number for number in _SCRATCH if f"r{number}" in free), None)


def jump(at: int, to: int, free: frozenset[str]) -> list[int] | None:
    """Return the words at ``at`` that go to ``to``: one branch, or through free registers, or None."""
    if encode.branch_reaches(at, to):
        return [encode.b(at, to)]
    if encode.absolute_reaches(to):
        return [encode.ba(to)]
    register = free_gpr(free)
    if register is None:
        return None
    if "ctr" in free:
        return [*encode.load_address(register, to), encode.mtctr(register), encode.bctr()]
    if "lr" in free:
        return [*encode.load_address(register, to), encode.mtlr(register), encode.blr()]
    return None


def _far(site: Instruction, to: int) -> Refused:
    return Refused(
        "reach",
        f"the '{site.mnemonic}' at 0x{site.address:08x} cannot be moved: from the patch its target "
        f"0x{to:08x} is out of branch reach and no registers are free to go there",
        site.address,
    )


def displace(site: Instruction, at: int, free: frozenset[str]) -> Displaced:
    """Return the words that have at address ``at`` the effect that ``site`` has at its own.

    ``free`` are registers free where the instruction goes; for a call, those free before it.
    Raises `Refused` (rule ``displaced``, ``reach`` or ``registers``).
    """
    word, here = site.word, site.address
    if site.kind in (Kind.SYSCALL, Kind.RFI) or site.mnemonic in ("tw", "twi"):
        raise Refused(
            "displaced",
            f"'{site.mnemonic}' at 0x{here:08x} cannot be moved: the kernel looks at the address it ran at",
            here,
        )
    opcode = word >> 26
    link = bool(word & 1) and opcode in (16, 18, 19) and site.kind is not Kind.ARITHMETIC
    prefix: list[int] = []
    if link:
        prefix = _return_address(site, free)
    if opcode == 18:
        target = encode.branch_target(here, word)
        assert target is not None
        if link and target == here + 4:
            return Displaced(tuple(prefix), falls_through=True)
        words = jump(at + 4 * len(prefix), target, free - {"lr"} if link else free)
        if words is None:
            raise _far(site, target)
        return Displaced((*prefix, *words), falls_through=False)
    if opcode == 16:
        return _conditional(site, at, prefix, free, link)
    if link:  # blrl, bctrl: as plain bctr once LR holds the original return address
        if word != encode.bctrl():
            raise Refused(
                "displaced", f"'{site.text}' at 0x{here:08x} cannot be moved: it reads and writes LR", here
            )
        return Displaced((*prefix, encode.bctr()), falls_through=False)
    unconditional = site.kind in (Kind.RETURN, Kind.INDIRECT) and word >> 21 & 0x14 == 0x14
    return Displaced((word,), falls_through=not unconditional)


def _return_address(site: Instruction, free: frozenset[str]) -> list[int]:
    register = free_gpr(free)
    if register is None:
        raise Refused(
            "registers",
            f"the call at 0x{site.address:08x} cannot be moved: no register is free to set LR with",
            site.address,
        )
    return [*encode.load_address(register, site.address + 4), encode.mtlr(register)]


def _conditional(
    site: Instruction, at: int, prefix: list[int], free: frozenset[str], link: bool
) -> Displaced:
    """Move ``bc``: over a jump to its target, which stands behind the way out."""
    here, word = site.address, site.word
    bo, bi = word >> 21 & 31, word >> 16 & 31
    displacement = (word & 0xFFFC ^ 0x8000) - 0x8000
    target = (displacement if word & 2 else here + displacement) & 0xFFFF_FFFF
    if link:
        if bo & 0x14 == 0x14 and target == here + 4:  # bcl 20,31,.+4: get the own address
            return Displaced(tuple(prefix), falls_through=True)
        raise Refused(
            "displaced", f"the conditional call at 0x{here:08x} cannot be moved in this version", here
        )
    # bc taken ─► +8: jump target;  not taken ─► b over the jump, to what follows
    after_branch = at + 8
    words = jump(after_branch, target, free)
    if words is None:
        raise _far(site, target)
    end = after_branch + 4 * len(words)
    return Displaced((encode.bc(bo, bi, at, after_branch), encode.b(at + 4, end), *words), falls_through=True)
