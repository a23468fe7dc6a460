"""What a compiled payload says of itself: whether it sees all registers, writes them, leaves the function."""

from __future__ import annotations

import io
from typing import NamedTuple

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadPatch
from kgdbpatch.toolchain.objects import with_debug_relocated

__all__ = ["BEGIN", "PayloadNotes", "payload_notes"]

BEGIN = "kgp_begin"  # the function of a payload at a function's exits that runs at its entry
_REGISTERS, _EXIT = "kgp_regs", "kgp_exit"  # the structures of toolchain/include/kgdbpatch.h
_WRITES, _RETURNS = ".kgp.writes", ".kgp.returns"


class PayloadNotes(NamedTuple):
    """``registers``: the entry function's parameter is a ``struct kgp_regs *``; the rest by macros.

    ``exit``: it is a ``struct kgp_exit *``. ``writes`` is what `KGP_WRITES` names, or nothing.
    """

    registers: bool = False
    exit: bool = False
    writes: str = ""
    returns: bool = False


def payload_notes(data: bytes, entry: str, about: str) -> PayloadNotes:
    """Return what an object's function ``entry`` wants; raise `BadPatch` where that makes no sense."""
    file = ELFFile(io.BytesIO(data))
    writes, returns = file.get_section_by_name(_WRITES), file.get_section_by_name(_RETURNS)
    named = "" if writes is None else writes.data().replace(b"\0", b" ").decode("ascii", "replace")
    sees = _sees(data, entry, about)
    if sees is None and (writes is not None or returns is not None):
        what = "KGP_WRITES" if returns is None else "kgp_return"
        raise BadPatch(
            f"{about}: {what} is for a function whose parameter is a struct kgp_regs *: '{entry}' has none"
        )
    return PayloadNotes(sees == _REGISTERS, sees == _EXIT, named, returns is not None)


def _sees(data: bytes, entry: str, about: str) -> str | None:
    """Return which structure of ours the entry function's parameter points to, or None."""
    if not any(name.encode() in data for name in (_REGISTERS, _EXIT)):
        return None
    try:
        information = ELFFile(io.BytesIO(with_debug_relocated(data))).get_dwarf_info(
            relocate_dwarf_sections=False
        )
        for unit in information.iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                if die.tag == "DW_TAG_subprogram" and _name(die) == entry:
                    return _takes(die, entry, about)
    except (DWARFError, ELFError) as error:
        raise BadPatch(f"{about}: its debug information cannot be read: {error}") from error
    return None


def _takes(function: DIE, entry: str, about: str) -> str | None:
    parameters = [die for die in function.iter_children() if die.tag == "DW_TAG_formal_parameter"]
    found = [name for name in map(_points_to, parameters) if name in (_REGISTERS, _EXIT)]
    if found and len(parameters) > 1:
        raise BadPatch(f"{about}: '{entry}' takes a struct {found[0]} *: that must be its only parameter")
    return found[0] if found else None


def _points_to(parameter: DIE) -> str | None:
    """Return the name of the structure that a parameter points to."""
    die = parameter.get_DIE_from_attribute("DW_AT_type")
    pointers = 0
    while die.tag in ("DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_typedef", "DW_TAG_pointer_type"):
        pointers += die.tag == "DW_TAG_pointer_type"
        if "DW_AT_type" not in die.attributes:
            return None
        die = die.get_DIE_from_attribute("DW_AT_type")
    return _name(die) if pointers == 1 and die.tag == "DW_TAG_structure_type" else None


def _name(die: DIE) -> str | None:
    name = die.attributes.get("DW_AT_name")
    return None if name is None else name.value.decode("utf-8", "replace")
