"""Encode from the instruction table what keystone is not trusted with: branches and rare instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, product

from kgdbpatch.errors import BadPatch, Misuse
from kgdbpatch.isa import altivec, encode
from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.models import syntax_of_model
from kgdbpatch.isa.sprs import special_registers
from kgdbpatch.isa.table import TABLE
from kgdbpatch.isa.text import TRAPS, syntax
from kgdbpatch.toolchain.statements import Program, Statement, checked, displacement, no_base_r0, out_of_reach

__all__ = ["encoded"]

_CONDITIONAL_REACH = 0x8000

# Where an operand stands (a letter of `kgdbpatch.isa.operands`): shift, least and greatest value.
_PLACES = {
    **dict.fromkeys("DFdpV", (21, 0, 31)),
    **dict.fromkeys("AGaZqW=", (16, 0, 31)),  # =: a vector register that is both sources
    **dict.fromkeys("BHsrX", (11, 0, 31)),
    **dict.fromkeys("CJbY", (6, 0, 31)),
    "e": (1, 0, 31),
    "i": (0, -0x8000, 0x7FFF),
    "u": (0, 0, 0xFFFF),
    "n": (11, 1, 32),
    "c": (23, 0, 7),
    "x": (18, 0, 7),
    "f": (12, 0, 0xFF),
    "w": (17, 0, 0xFF),
    "t": (23, 0, 7),
    "v": (12, 0, 15),
    "g": (16, 0, 15),
    "z": (16, -16, 15),
    "T": (21, 0, 3),
    "N": (16, 0, 3),  # of a register that there are several of: SPRG0
    "2": (17, 0, 3),  # IBAT0U, whose neighbour is IBAT0L
}
_WIDTHS = {"i": 0xFFFF, "n": 31, "z": 31}  # masks of values written otherwise than they stand in the word
_SEVERAL = {
    "sprg": (272, "N"),
    **{f"{kind}bat{half}": (528 + 8 * (kind == "d") + (half == "l"), "2") for kind in "id" for half in "ul"},
}  # the number of the first special register of that name
_BCLR, _BCCTR = 16, 528
_OPERANDS = 1 << 21 | 2 << 16 | 3 << 11 | 4 << 6  # no two alike, which would have another name
# BO of what is told by the name: a counted branch, a condition, both (PEM 4.2.4.2); the condition's bit.
_CONDITIONS = {
    name: (bo, bit)
    for bo, names in ((12, "lt gt eq so,un"), (4, "ge,nl le,ng ne ns,nu"))
    for bit, several in enumerate(names.split())
    for name in several.split(",")
}
_COUNTED = {"dnz": 16, "dz": 18, "dnzt": 8, "dnzf": 0, "dzt": 10, "dzf": 2, "t": 12, "f": 4}


def encoded(program: Program, statement: Statement, model: str = "") -> int | None:
    """Return the word of ``.long``, a branch or a table's instruction, else None; or raise `BadPatch`."""
    name, at = statement.mnemonic, statement.address
    where = f"{program.filename}:{statement.line}"

    def value(operand: str) -> int:
        found = program.value(operand, statement.line, at)
        if not -(1 << 32) < found < 1 << 32:
            raise BadPatch(f"{where}: {operand} is out of range: no address has more than 32 bits")
        return found

    if name == ".long" and len(statement.operands) == 1:
        return value(statement.operands[0]) & 0xFFFF_FFFF
    branch = _branches().get(name.rstrip("+-"))
    if branch is not None and name[-2:] not in ("++", "--", "+-", "-+"):
        try:
            return branch([value(operand) for operand in statement.operands], name, at, where)
        except Misuse as error:
            raise BadPatch(f"{where}: {error}") from error
    form = _forms(model).get(name, {}).get(len(statement.operands))
    if form is None:
        return None
    word = form[0]
    for letters, operand in zip(form[1], statement.operands, strict=True):
        texts = displacement(statement, operand, where) if "(" in letters else (operand,)
        for letter, text in zip(letters.replace("(", "").replace(")", ""), texts, strict=True):
            word |= _field(letter, text, value(text), where, statement)
    made = decode(word, at, model)
    if made.foreign or made.text.startswith(".long"):
        raise BadPatch(f"{where}: {statement.written} is no valid form")
    return word


def _field(letter: str, text: str, value: int, where: str, statement: Statement) -> int:
    shift, low, high = _PLACES[letter]
    if letter == "Z":
        no_base_r0(statement, text, where)
    field = (checked(statement, text, value, low, high, where) & _WIDTHS.get(letter, 0xFFFF)) << shift
    return field | value << 11 if letter == "=" else field


_Form = tuple[int, tuple[str, ...]]  # the word without its operands, and the letters of each


@cache
def _forms(model: str) -> dict[str, dict[int, _Form]]:
    """Return the forms of every mnemonic by the number of operands."""
    found: dict[str, dict[int, _Form]] = {}
    for name, word, letters in chain(_rows(), _vector_rows() if altivec.has_altivec(model) else ()):
        parts = tuple(letters.split(",")) if letters else ()
        found.setdefault(name, {}).setdefault(len(parts), (word, parts))
    return found


def _rows() -> Iterator[tuple[str, int, str]]:
    for row in sorted(TABLE, key=lambda row: row.mask.bit_count()):  # the most general first
        letters = syntax(row.mnemonic)
        if letters is not None and set(letters) <= {*_PLACES, *",()"}:
            yield row.mnemonic, row.match, letters
    for to, name in TRAPS.items():
        yield f"tw{name}", 31 << 26 | to << 21 | 4 << 1, "A,B"
        yield f"tw{name}i", 3 << 26 | to << 21, "A,i"
    for writes, number, name in special_registers():
        spr = (number & 31) << 16 | number >> 5 << 11
        yield f"{'mt' if writes else 'mf'}{name}", 31 << 26 | spr | (467 if writes else 339) << 1, "D"
    for (name, (first, which)), (mnemonic, code) in product(_SEVERAL.items(), (("mf", 339), ("mt", 467))):
        word = 31 << 26 | (first & 31) << 16 | first >> 5 << 11 | code << 1
        yield f"{mnemonic}{name}", word, f"D,{which}" if mnemonic == "mf" else f"{which},D"


def _vector_rows() -> Iterator[tuple[str, int, str]]:
    for row in altivec.ROWS:
        letters = syntax_of_model(row.match | _OPERANDS & ~row.mask, altivec.MODEL)
        if letters is not None:
            yield row.mnemonic, row.match, letters
    yield "vmr", 4 << 26 | 1156, "V,="
    yield "vnot", 4 << 26 | 1284, "V,="


_Branch = Callable[[list[int], str, int, str], int]


@cache
def _branches() -> dict[str, _Branch]:
    """Return what encodes a branch, by its mnemonic less the hint."""
    found: dict[str, _Branch] = {}
    for links, absolute in product((False, True), repeat=2):
        ending = f"{'l' if links else ''}{'a' if absolute else ''}"
        found[f"b{ending}"] = _plain(links=links, absolute=absolute)
        for name in ("c", *_COUNTED, *_CONDITIONS):
            found[f"b{name}{ending}"] = _conditional(name, "", links=links, absolute=absolute)
    for to, links in product(("lr", "ctr"), (False, True)):
        for name in ("c", "", *_COUNTED, *_CONDITIONS):
            if to == "lr" or "d" not in name:  # what counts CTR does not go where it points
                found[f"b{name}{to}{'l' if links else ''}"] = _conditional(name, to, links=links)
    return found


def _target(value: int, at: int, where: str, reach: int, *, links: bool, absolute: bool) -> int:
    """Return the bits of a branch that say where it goes."""
    target = value & 0xFFFF_FFFF
    if target & 3:
        raise BadPatch(f"{where}: no branch reaches 0x{target:x}: not the address of a word")
    distance = ((target - (0 if absolute else at) + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
    if not -reach <= distance < reach:
        raise out_of_reach(where, at, target, linked=links)
    return distance & (2 * reach - 1) & ~3 | (2 if absolute else 0)


def _plain(*, links: bool, absolute: bool) -> _Branch:
    def word(values: list[int], name: str, at: int, where: str) -> int:
        if len(values) != 1 or name[-1] in "+-":
            raise BadPatch(f"{where}: '{name}' takes a target, and no hint")
        if absolute:
            return encode.ba(values[0] & 0xFFFF_FFFF, link=links)
        bits = _target(values[0], at, where, encode.BRANCH_REACH, links=links, absolute=False)
        return 18 << 26 | bits | links

    return word


def _conditional(condition: str, to: str, *, links: bool, absolute: bool = False) -> _Branch:
    def word(values: list[int], name: str, at: int, where: str) -> int:
        rest = list(values)
        bo, bit = _chosen(condition, rest, targets=0 if to else 1, name=name, where=where)
        hint = name[-1] if name[-1] in "+-" else ""
        if to:
            if len(rest) > 1 or (rest and not 0 <= rest[0] <= 3):
                raise BadPatch(f"{where}: '{name}' takes no such operands")
            if to == "ctr" and not bo & 4:
                raise BadPatch(f"{where}: '{name}' would count CTR and go where it points: no valid form")
            extended = _BCLR if to == "lr" else _BCCTR
            bo |= hint == "+"
            return 19 << 26 | bo << 21 | bit << 16 | sum(rest) << 11 | extended << 1 | links
        bits = _target(rest[0], at, where, _CONDITIONAL_REACH, links=links, absolute=absolute)
        bo |= hint != "" and (hint == "+") != bool(bits & 0x8000)  # backward is expected to be taken
        return 16 << 26 | bo << 21 | bit << 16 | bits | links

    return word


def _chosen(condition: str, values: list[int], *, targets: int, name: str, where: str) -> tuple[int, int]:
    """Return BO and BI, and take those of the operands that tell of them off ``values``."""

    def take(high: int) -> int:
        if not values or not 0 <= values[0] <= high:
            raise BadPatch(f"{where}: '{name}' takes no such operands")
        return values.pop(0)

    bo, bit = 20, 0
    if condition == "c":
        bo, bit = take(31), take(31)
    elif condition in _COUNTED:
        bo = _COUNTED[condition]
        bit = take(31) if condition.endswith(("t", "f")) else 0
    elif condition:
        bo, bit = _CONDITIONS[condition]
        bit += 4 * take(7) if len(values) > targets else 0
    if targets and len(values) != targets:
        raise BadPatch(f"{where}: '{name}' takes no such operands")
    return bo, bit
