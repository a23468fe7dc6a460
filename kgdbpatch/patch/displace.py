"""Move an instruction into a patch body with its effect unchanged (paper 3.2.4, 3.3.1).

A branch is rewritten to reach its old target, a displaced call leaves the original return address in LR, so
that back-traces stay true; the paper refuses both. ``sc`` returns into the body and goes on behind the site;
its handler sees the body's address in SRR0. Traps are refused: kernels look up the address of one.
"""

from __future__ import annotations

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.patch.reach import free_gprs, jump
from kgdbpatch.patch.site import Site

__all__ = ["back", "displace", "immovable", "onward", "plain"]

_ALWAYS, _NO_COUNT = 0x14, 0x04  # bits of BO: taken always; CTR left alone (PEM, table 8-4)
_TAKEN = 12  # the register taken where none is free


def plain(instruction: Instruction) -> bool:
    """Tell whether an instruction always goes on to the next word."""
    kind = instruction.kind
    return not kind.transfers and kind not in (Kind.CALL, Kind.SYSCALL, Kind.TRAP)


def immovable(site: Site) -> Refused | None:
    """Return why a site's instruction has its effect at its own address only, or None."""
    instruction = site.instruction
    if instruction.kind is Kind.TRAP:
        return site.refused(
            "trap",
            f"'{instruction.mnemonic}' at {site.at} cannot be moved: the kernel looks a trap up by the "
            "address it ran at",
        )
    if site.remaps:
        return site.refused(
            "mapping", f"'{instruction.text}' at {site.at} changes what memory is mapped, the patch's perhaps"
        )
    return None


def _far(site: Site, what: str, to: int) -> Refused:
    return site.refused(
        "reach",
        f"{what} of the patch at {site.at} to 0x{to:08x} is out of branch reach, "
        "and no registers are free to go there",
    )


def _go(site: Site, at: int, to: int, *, linked: bool = False) -> list[int]:
    """Return the words that go where the site's branch goes; what is free before it is free there."""
    words = jump(at, to, site.free - {"lr"} if linked else site.free)
    if words is None:
        raise _far(site, f"the way of the '{site.instruction.mnemonic}'", to)
    return words


def back(site: Site, at: int) -> list[int]:
    """Return the words at ``at`` that go on behind the site; or `Refused`."""
    words = jump(at, site.address + 4, site.free_after)
    if words is None:
        raise _far(site, "the way back", site.address + 4)
    return words


def displace(site: Site, at: int) -> list[int]:
    """Return the words that do at ``at`` what the site's instruction does and what follows; or `Refused`."""
    instruction = site.instruction
    objection = immovable(site)
    if objection is not None and not site.force:
        raise objection
    word, opcode = instruction.word, instruction.word >> 26
    if plain(instruction) or instruction.kind in (Kind.SYSCALL, Kind.TRAP):
        return [word, *back(site, at + 4)]
    if instruction.kind is Kind.RFI:
        return [word]
    if opcode == 19:
        return _indirect(site, at)
    bo = _ALWAYS if opcode == 18 else word >> 21 & 31
    assert instruction.target is not None
    prefix = _return_address(site) if word & 1 else []
    at += 4 * len(prefix)
    if bo & _ALWAYS == _ALWAYS:
        return [*prefix, *_go(site, at, instruction.target, linked=bool(word & 1))]
    return [*prefix, *_conditional(site, at)]


def _return_address(site: Site, target_in_ctr: bool = False) -> list[int]:
    """Return words that leave the original return address in LR (and, before, the old LR in CTR)."""
    registers = free_gprs(site.free)
    register = registers[0] if registers else _TAKEN
    words = [encode.mflr(register), encode.mtctr(register)] if target_in_ctr else []
    words += [*encode.load_address(register, site.address + 4), encode.mtlr(register)]
    if registers:
        return words
    if "ctr" in site.free and not target_in_ctr:
        return [encode.mtctr(register), *words, encode.mfctr(register)]
    frame = site.spill(register)
    return [frame.enter(), frame.keep(0), *words, frame.reload(0), frame.leave()]


def _conditional(site: Site, at: int) -> list[int]:
    """Move ``bc``: taken, to a jump behind the way back; not taken, to the way back."""
    instruction, word = site.instruction, site.instruction.word
    assert instruction.target is not None
    bo, bi = word >> 21 & 31, word >> 16 & 31
    if instruction.target == site.address + 4:  # both ways are one; CTR may still count
        counting = [] if bo & _NO_COUNT else [encode.bc(bo, bi, at, at + 4)]
        return [*counting, *back(site, at + 4 * len(counting))]
    home = back(site, at + 4)
    taken = at + 4 + 4 * len(home)
    go = _go(site, taken, instruction.target, linked=bool(word & 1))
    return [encode.bc(bo, bi, at, taken), *home, *go]


def _indirect(site: Site, at: int) -> list[int]:
    """Move ``bclr`` and ``bcctr``, which go wherever LR or CTR says; set LR first where they link."""
    word = site.instruction.word
    bo, bi = word >> 21 & 31, word >> 16 & 31
    words = [word]
    if word & 1:
        by_lr = word >> 1 & 0x3FF == 16
        if by_lr and ("ctr" not in site.free or not bo & _NO_COUNT):
            raise site.refused(
                "registers",
                f"'{site.instruction.text}' at {site.at} cannot be moved: it reads and writes LR, "
                "and CTR is not free to hold its target",
            )
        words = [*_return_address(site, target_in_ctr=by_lr), encode.bcctr(bo, bi)]
    if bo & _ALWAYS == _ALWAYS:
        return words
    return [*words, *back(site, at + 4 * len(words))]


def onward(site: Site, at: int) -> list[int]:
    """Return what follows the payload: the moved instruction, or the older patch of the site.

    One that returns by LR is called, and comes back to the second word; `plan` says where it can.
    """
    if site.under is None:
        return displace(site, at)
    on, home = jump(at, site.under_at, frozenset()), jump(at + 4, site.address + 4, site.free_after)
    moved = at if site.under_moved is None else site.under_moved
    if on is None or jump(at, moved, frozenset()) is None or (home is None and site.under & 1):
        raise site.refused("reach", f"the older patch of {site.at} is out of reach of a new one")
    return [on[0] | site.under & 1, *(home or [])]
