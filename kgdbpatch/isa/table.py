"""Compile the instruction rows into one table; everything else about instructions derives from it.

A row of ``rows_*.txt`` reads ``name encoding options defs <- uses memory`` under a ``[kind]`` heading:

* encoding: ``32`` primary opcode; ``31/23`` with a 10-bit extended opcode in bits 21-30 (and the record bit
  behind it);
  ``63a18`` with a 5-bit one in bits 26-30; of AltiVec ``4v64`` with an 11-bit one in bits 21-31, ``4c6`` with
  a 10-bit one and the record bit before it, ``4m42`` with a 6-bit one in bits 26-31; of SPE ``4e79`` with
  an 8-bit one in bits 21-28.
* options: ``rc`` and ``oe`` make further rows for the record and overflow forms; ``-A`` says that
  the whole field is reserved (zero), ``0:HEX`` and ``1:HEX`` name bits that must be zero or one,
  ``spr:N`` the special register (``~M``: the bits of M are free); ``A!0`` and ``A!D`` what a valid
  form's rA is not; ``A=B`` and ``S=B`` that these are not read when they are the same register.
* defs, uses: a field name stands for the register it selects (`fields.FIELDS`), any other word
  for that register itself. ``A0`` is no register at all when the field is 0.
* memory: ``base+offset:bytes``.

``defs`` is what the instruction may change, ``uses`` what its outcome depends on: a register that
is written in part, or only under a condition, is in both.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kgdbpatch.isa.fields import FIELDS, field_mask
from kgdbpatch.isa.registers import CRS, GPRS, mask

__all__ = ["TABLE", "Kind", "Row", "listed"]

SO = mask("so")
_GROUPS = {"crs": CRS, "gprs": GPRS}


class Kind(enum.IntEnum):
    """The instruction classes: the paper's hierarchy, and what a kernel needs besides."""

    UNKNOWN = 0
    ARITHMETIC = 1
    LOAD = 2
    STORE = 3
    BRANCH = 4
    JUMP = 5
    CALL = 6
    RETURN = 7
    INDIRECT = 8
    SYSCALL = 9
    RFI = 10
    TRAP = 11
    SYSTEM = 12
    FOREIGN = 13

    @property
    def transfers(self) -> bool:
        """Whether control may go elsewhere than to the next word, calls and traps left aside."""
        return self in _TRANSFERS


_TRANSFERS = frozenset({Kind.BRANCH, Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI})


class Row(NamedTuple):
    """One instruction form: which words are of it, what it is, what it reads and writes."""

    mnemonic: str
    mask: int
    match: int
    kind: Kind
    conditional: bool = False
    privileged: bool = False
    def_fields: tuple[str, ...] = ()
    use_fields: tuple[str, ...] = ()
    defs: int = 0
    uses: int = 0
    not_zero: bool = False
    not_target: bool = False
    cancels: str | None = None
    base: str | None = None
    offset: str | None = None
    width: int = 0


_ENCODING = re.compile(r"(\d+)(?:([/avcme])(\d+))?")
_EXTENDED = {
    "/": (0x3FF, 1),
    "a": (0x1F, 1),
    "v": (0x7FF, 0),
    "c": (0x3FF, 0),
    "m": (0x3F, 0),
    "e": (0xFF, 3),
}
_VECTOR_RECORD = 0x400


def _encoding(text: str) -> tuple[int, int]:
    found = _ENCODING.fullmatch(text)
    assert found, text
    bits, match = 0x3F << 26, int(found[1]) << 26
    if found[2]:
        extended, shift = _EXTENDED[found[2]]
        bits |= extended << shift
        match |= int(found[3]) << shift
    return bits, match


def _spr(number: int) -> int:
    return (number & 31) << 16 | (number >> 5) << 11


def _registers(words: list[str]) -> tuple[tuple[str, ...], int]:
    fields = tuple(word for word in words if word in FIELDS)
    fixed = 0
    for word in words:
        if word not in FIELDS:
            fixed |= _GROUPS[word] if word in _GROUPS else mask(word)
    return fields, fixed


def _variants(oe: bool, rc: bool, cr: str, record: int) -> Iterator[tuple[str, int, int]]:
    """Yield name suffix, encoding bits and registers defined besides, of each form of a row."""
    for o in (False, True) if oe else (False,):
        for r in (False, True) if rc else (False,):
            bits = (0x400 if o else 0) | (record if r else 0)
            extra = (mask("ov", "so") if o else 0) | (mask(cr) if r else 0)
            yield ("o" if o else "") + ("." if r else ""), bits, extra


def _parse_row(line: str, kind: Kind, conditional: bool) -> Iterator[Row]:
    left, right = line.split("<-")
    name, encoding, *words = left.split()
    bits, match = _encoding(encoding)
    options: set[str] = set()
    defs: list[str] = []
    for word in words:
        if word.startswith("-"):
            bits |= field_mask(word[1:])
        elif word.startswith("0:"):
            bits |= int(word[2:], 16)
        elif word.startswith("1:"):
            bits |= int(word[2:], 16)
            match |= int(word[2:], 16)
        elif word.startswith("spr:"):
            number, _, free = word[4:].partition("~")
            bits |= 0x1FF800 & ~_spr(int(free or 0))
            match |= _spr(int(number))
        elif word in ("oe", "rc", "privileged", "A!0", "A!D", "A=B", "S=B"):
            options.add(word)
        else:
            defs.append(word)
    uses = right.split()
    base = offset = None
    width = 0
    if uses and ":" in uses[-1]:
        place, size = uses.pop().split(":")
        base, _, offset = place.partition("+")
        width = int(size)
    vector = encoding.startswith("4") and "/" not in encoding
    record_bit = _VECTOR_RECORD if vector else 1
    if "rc" in options:
        bits |= record_bit
    elif vector:
        pass  # it has no record bit
    elif "/" in encoding or "a" in encoding:
        assert bits & 1 or kind is not Kind.ARITHMETIC, line
    def_fields, def_fixed = _registers(defs)
    use_fields, use_fixed = _registers(uses)
    record = "cr6" if vector else "cr1" if encoding.startswith(("59", "63")) else "cr0"
    sticky = {"cr0": SO, "cr1": mask("fpscr"), "cr6": 0}[record]
    # An operation that traps for an enabled exception leaves CR1 as it was (seen on QEMU's 750).
    if record == "cr1" and "fD" in use_fields:
        sticky |= mask("cr1")
    for suffix, form, extra in _variants("oe" in options, "rc" in options, record, record_bit):
        yield Row(
            mnemonic=name + suffix,
            mask=bits,
            match=match | form,
            kind=kind,
            conditional=conditional,
            privileged="privileged" in options,
            def_fields=def_fields,
            use_fields=use_fields,
            defs=def_fixed | extra,
            uses=use_fixed | (sticky if extra else 0),
            not_zero="A!0" in options,
            not_target="A!D" in options,
            cancels="A" if "A=B" in options else "S" if "S=B" in options else None,
            base=base,
            offset=offset or None,
            width=width,
        )


def listed(name: str) -> Iterator[Row]:
    """Yield the rows of the listing ``rows_NAME.txt``."""
    kind, conditional = Kind.UNKNOWN, False
    for line in Path(__file__).with_name(f"rows_{name}.txt").read_text("ascii").splitlines():
        if line.startswith("["):
            heading, *rest = line.strip("[]").split()
            kind, conditional = Kind[heading.upper()], rest == ["conditional"]
        elif line and not line.startswith("#"):
            yield from _parse_row(line, kind, conditional)


# Row 0 is what no other row matches. More special rows stand before the general ones.
TABLE: tuple[Row, ...] = (
    Row("unknown", 0, 0, Kind.UNKNOWN),
    *(row for name in ("integer", "memory", "control", "float") for row in listed(name)),
)
