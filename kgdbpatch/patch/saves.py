"""Keep registers that a payload changes and the kernel still needs: in free registers, else in a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kgdbpatch.isa import encode
from kgdbpatch.isa.registers import names
from kgdbpatch.patch.reach import free_gprs
from kgdbpatch.patch.site import Site

__all__ = ["Saves", "save"]

_XER = ("ca", "ov", "so", "string")  # the last, the count of lswx, is never free
_MOVES = {  # special register: to a GPR, back from it
    "lr": (encode.mflr, encode.mtlr),
    "ctr": (encode.mfctr, encode.mtctr),
    "xer": (encode.mfxer, encode.mtxer),
}


@dataclass(frozen=True, slots=True)
class Saves:
    """The words around a payload, and the names of the registers that they keep.

    ``slots`` are offsets from r1 in a frame, by name; ``spare`` that of a word which is the body's own.
    """

    registers: tuple[str, ...] = ()
    enter: list[int] = field(default_factory=list)
    leave: list[int] = field(default_factory=list)
    slots: dict[str, int] = field(default_factory=dict)
    spare: int = 0

    def as_at_the_site(self, *registers: int) -> list[int]:
        """Return words that give CR0 and general-purpose registers back, as far as they are kept."""
        words = []
        if "cr" in self.slots and registers:
            words = [encode.lwz(registers[0], self.slots["cr"], 1), encode.mtcrf(0x80, registers[0])]
        kept = (number for number in registers if f"r{number}" in self.slots)
        return words + [encode.lwz(number, self.slots[f"r{number}"], 1) for number in kept]


def save(site: Site, clobbers: int, *, frame: bool, seen: bool = True) -> Saves:
    """Return what has to be kept at ``site`` around code that changes the registers of a mask.

    With ``frame`` the code gets one of its own; ``seen``: it finds all registers as they are at the site.
    Raises `Refused` by the rules ``floating point`` and ``stack``.
    """
    changed = names(clobbers)
    saved = [name for name in changed if name not in site.free]
    floating = [name for name in saved if name[0] == "f"]
    if floating:
        raise site.refused(
            "floating point",
            f"the payload changes {', '.join(floating)}, live at {site.at}; "
            "kernel code runs with floating point off",
        )
    items = [name for name in saved if name[0] == "r"]
    fields = [int(name[2:]) for name in saved if name.startswith("cr")]
    special: list[str] = [name for name in ("lr", "ctr") if name in saved]
    special += ["cr"] if fields else []
    special += ["xer"] if any(name in saved for name in _XER) else []
    told = tuple(name for name in saved if name != "string")
    enter: list[int] = []
    leave: list[int] = []
    used: set[str] = set()
    if not frame:
        enter, leave, used = _in_registers(site.free - set(changed), items, special, fields)
    if items or special or frame:
        framed = _in_frame(site, site.free - used, items, special, fields, seen)
        words = [*enter, *framed.enter], [*framed.leave, *leave]
        return Saves(told, *words, slots=framed.slots, spare=framed.spare)
    return Saves(told, enter, leave)


def _in_registers(
    homes: frozenset[str], items: list[str], special: list[str], fields: list[int]
) -> tuple[list[int], list[int], set[str]]:
    """Keep what has a home in free registers, and drop it; return words before, after, homes."""
    enter: list[int] = []
    leave: list[int] = []
    used: set[str] = set()
    free_fields = [number for number in range(8) if f"cr{number}" in homes]
    if len(fields) == 1 and free_fields:
        enter.append(encode.mcrf(free_fields[0], fields[0]))
        leave.append(encode.mcrf(fields[0], free_fields[0]))
        special.remove("cr")
    registers = list(free_gprs(homes))
    for name in list(special):
        if registers:
            home = registers.pop(0)
            used.add(f"r{home}")
            read, write = _move(name, fields)
            enter.append(read(home))
            leave.append(write(home))
            special.remove(name)
    for holder in ("ctr", "lr"):
        if holder in homes and items:
            register = int(items.pop()[1:])
            read, write = _MOVES[holder]
            enter.append(write(register))
            leave.append(read(register))
            used.add(holder)
    return enter, leave, used


def _move(name: str, fields: list[int]) -> tuple[Callable[[int], int], Callable[[int], int]]:
    if name == "cr":
        mask = sum(0x80 >> number for number in fields)
        return encode.mfcr, lambda register: encode.mtcrf(mask, register)
    return _MOVES[name]


def _in_frame(
    site: Site, free: frozenset[str], items: list[str], special: list[str], fields: list[int], seen: bool
) -> Saves:
    """Keep general-purpose registers, and special ones by way of a scratch register, on the stack."""
    scratch = 0
    if special:
        registers = list(free_gprs(free)) or [int(name[1:]) for name in items]
        if not registers:  # all free ones hold something: any other is live
            registers = [next(number for number in (0, 12, 11, 10) if f"r{number}" not in site.free)]
            items = [f"r{registers[0]}"]
        scratch = registers[0]
    # the last word is nobody's: for who needs one
    frame = site.spill(
        *(int(name[1:]) for name in items), *(scratch for _ in special), *([0] if site.once else [])
    )
    enter = [frame.enter(), *(frame.keep(position) for position in range(len(items)))]
    leave: list[int] = []
    for position, name in enumerate(special, start=len(items)):
        read, write = _move(name, fields)
        enter += [read(scratch), frame.keep(position)]
        leave += [frame.reload(position), write(scratch)]
    if seen and special and f"r{scratch}" in items:
        enter.append(frame.reload(items.index(f"r{scratch}")))
    leave += [frame.reload(position) for position in range(len(items))]
    slots = {name: frame.slot(position) for position, name in enumerate([*items, *special])}
    return Saves((), enter, [*leave, frame.leave()], slots, frame.slot(len(slots)))
