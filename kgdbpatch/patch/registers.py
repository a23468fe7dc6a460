"""Show a payload all registers of a site, take back those that it changes, leave the function for it.

The registers stand in a frame of the thread's own stack, as ``struct kgp_regs`` (toolchain/include) has
them: a payload gets its address, and every other register of the site in it.
"""

from __future__ import annotations

from typing import NamedTuple

from kgdbpatch.errors import BadPatch
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.registers import mask, names
from kgdbpatch.patch.saves import Saves
from kgdbpatch.patch.site import Site

__all__ = ["FIELDS", "SIZE", "RegistersUse", "argument", "leave_function", "show", "writes_of"]

_SPECIAL = ("cr", "lr", "ctr", "xer", "msr", "site", "caller", "leaves")
# offsets in bytes
FIELDS = {f"r{number}": 4 * number for number in range(32)} | {
    name: 128 + 4 * index for index, name in enumerate(_SPECIAL)
}
SIZE = 4 * len(FIELDS)
_FAR = 0x7FF8  # bytes: offsets have 16 bits
_ARGUMENT = 3  # the register that takes the address of all others
_FIRST_IN_BULK = 13  # stmw keeps this register and those above
_AROUND = mask("r0", "r3", "r11", "r12", "cr0")  # changed by what shows them and counts hits
_XER = ("ca", "ov", "so", "string")
_FIXED = {"r1": "the stack pointer", "r2": "the system's own", "r13": "the system's own"}
_WRITABLE = frozenset(
    [f"r{number}" for number in range(32) if f"r{number}" not in _FIXED]
    + [f"cr{number}" for number in range(8)]
    + ["cr", "lr", "ctr", "xer"]
)


class RegistersUse(NamedTuple):
    """Which of all registers a payload changes, by name, and whether it may leave the function."""

    writes: frozenset[str] = frozenset()
    returns: bool = False


def writes_of(given: str, about: str) -> frozenset[str]:
    """Return the registers that a list with commas or blanks names; raise `BadPatch` for others.

    >>> sorted(writes_of("r3, cr0", "probe.c"))
    ['cr0', 'r3']
    """
    named = given.replace(",", " ").split()
    for name in named:
        if name not in _WRITABLE:
            why = f"it is {_FIXED[name]}" if name in _FIXED else "there are r0 r3..r31 cr0..cr7 cr lr ctr xer"
            raise BadPatch(f"{about}: a payload cannot write '{name}': {why}")
    if not named:
        raise BadPatch(f"{about}: no register is named that the payload writes")
    return frozenset(named)


def _base(abi: ABI) -> int:
    return -(-abi.linkage // 8) * 8


def argument(abi: ABI) -> int:
    """Return the word that gives a payload the address of the registers."""
    return encode.addi(_ARGUMENT, 1, _base(abi))


def _frame(site: Site, spare: int) -> int:
    """Return the bytes by which r1 moves, with the last word that is used at offset ``spare``."""
    return -(-(spare + 4 + site.abi.red_zone) // 16) * 16


def show(site: Site, use: RegistersUse, clobbers: int) -> Saves:
    """Return what puts all registers into a frame around a payload, with r3 its address.

    Registers of the mask ``clobbers`` that are live at the site are put back from slots that the payload does
    not see, those that ``use`` writes from what it leaves. Raises `Refused` (``stack``, ``return``).
    """
    if not site.stack:
        raise site.refused(
            "stack", f"r1 is not the kernel's stack at {site.at}: there is no place to show registers in"
        )
    if use.returns and not site.entered and (site.unwinding is None or not site.unwinding.complete):
        raise site.refused(
            "return",
            "the payload may leave the function, and where that keeps its caller's registers at "
            f"{site.at} is not known: at a function's entry it is",
        )
    kept, fields, at = _kept(site, use, clobbers), _fields(use), _slots(site)
    kept_at = {
        name: _base(site.abi) + SIZE + 4 * index for index, name in enumerate([*kept, "return", "spare"])
    }
    spare = kept_at["spare"]
    frame = _frame(site, spare)
    enter = [encode.stwu(1, -frame, 1), encode.stw(0, at["r0"], 1)]
    enter += [encode.addi(0, 1, frame), encode.stw(0, at["r1"], 1)]
    enter += [encode.stw(number, at[f"r{number}"], 1) for number in range(2, _FIRST_IN_BULK)]
    enter.append(encode.stmw(_FIRST_IN_BULK, at[f"r{_FIRST_IN_BULK}"], 1))
    if "r0" in kept:
        enter += [encode.lwz(0, at["r0"], 1)]
    enter += [encode.stw(int(name[1:]), kept_at[name], 1) for name in kept if name[1:].isdigit()]
    for name, read in (
        ("cr", encode.mfcr),
        ("ctr", encode.mfctr),
        ("xer", encode.mfxer),
        ("lr", encode.mflr),
    ):
        enter += [read(0), encode.stw(0, at[name], 1)]
        enter += [encode.stw(0, kept_at[name], 1)] if name in kept else []
    # LR's value is still in r0
    enter += [encode.stw(0, kept_at["return"], 1)]
    if not site.entered:
        enter += _caller(site, frame)
    enter += [encode.stw(0, at["caller"], 1), encode.mfmsr(0), encode.stw(0, at["msr"], 1)]
    enter += [*encode.load_address(0, site.address), encode.stw(0, at["site"], 1)]
    enter += [encode.addi(0, 0, 0), encode.stw(0, at["leaves"], 1)]
    leave: list[int] = []
    for slots, names_of, crs in ((kept_at, kept, 0xFF & ~fields), (at, sorted(use.writes), fields)):
        if "cr" in names_of or (slots is at and crs):
            leave += [encode.lwz(0, slots["cr"], 1), encode.mtcrf(crs, 0)]
        for name, write in (("lr", encode.mtlr), ("ctr", encode.mtctr), ("xer", encode.mtxer)):
            if name in names_of:
                leave += [encode.lwz(0, slots[name], 1), write(0)]
    for slots, names_of in ((kept_at, kept), (at, sorted(use.writes))):
        numbers = [int(name[1:]) for name in names_of if name[0] == "r" and name[1:].isdigit()]
        leave += [encode.lwz(number, slots[f"r{number}"], 1) for number in numbers]
    leave.append(encode.addi(1, 1, frame))
    return Saves(tuple(kept), enter, leave, {**at, "return": kept_at["return"]}, spare)


def _caller(site: Site, frame: int) -> list[int]:
    """Return words behind the entry that load where the function returns to, 0 where that is not known.

    r0 has what is in LR.
    """
    place = site.unwinding
    if place is None or (place.lr is not None and frame + place.lr > _FAR):
        return [encode.addi(0, 0, 0)]
    return [] if place.lr is None else [encode.lwz(0, frame + place.lr, 1)]


def _slots(site: Site) -> dict[str, int]:
    return {name: _base(site.abi) + offset for name, offset in FIELDS.items()}


def _fields(use: RegistersUse) -> int:
    """Return the mask of ``mtcrf`` for the condition fields that a payload writes."""
    return sum(0x80 >> number for number in range(8) if f"cr{number}" in use.writes or "cr" in use.writes)


def _kept(site: Site, use: RegistersUse, clobbers: int) -> list[str]:
    """Return the registers that are put back: live, changed by the payload or around it, not written."""
    changed = {*names(clobbers | _AROUND)} - site.free - use.writes
    kept = [name for name in FIELDS if name in changed and name != "r1"]
    if any(name.startswith("cr") for name in changed) and "cr" not in use.writes:
        kept.append("cr")
    if not changed.isdisjoint(_XER) and "xer" not in use.writes:
        kept.append("xer")
    return kept


def leave_function(site: Site, saves: Saves) -> list[int]:
    """Return words that return from the function of ``site`` where the payload has asked for that."""
    at = saves.slots
    frame, place = _frame(site, saves.spare), site.unwinding
    own = 0 if place is None else place.frame
    if frame + own + 8 > _FAR:
        raise site.refused("return", f"{site.at} is in a frame of {own} bytes: too large to be left")
    back = at["return"] if place is None or place.lr is None else frame + place.lr
    words = [encode.lwz(0, back, 1), encode.mtlr(0)]
    words += [encode.lwz(number, frame + slot, 1) for number, slot in (place.kept if place else {}).items()]
    words += [encode.lwz(3, at["r3"], 1), encode.lwz(4, at["r4"], 1)]
    words += [encode.addi(1, 1, frame + own), encode.blr()]
    test = [encode.lwz(0, at["leaves"], 1), encode.cmpwi(0, 0)]
    return [*test, encode.bc(12, 2, 0, 4 * (len(words) + 1)), *words]
