"""Evaluate a straight run of instructions on symbols, as far as jump tables need it.

An expression is a tuple: ``("const", value)``, ``("in", register)`` for what a register held at the
start, ``("at", index, most)`` for the result of another instruction and the most that it can be,
``("add", one, other)``, ``("shl", one, bits)``, ``("and", one, mask)``, ``("load", address, index,
most)``. Equal expressions are equal values; unequal ones may be equal or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kgdbpatch.isa.operands import rotation_mask, signed

__all__ = ["Expression", "State", "constant", "most", "terms"]

Expression = tuple[object, ...]
_TOP = 0xFFFFFFFF
_VOLATILE = (0, *range(3, 13))
_LOADS = {32: _TOP, 34: 0xFF, 40: 0xFFFF}
_INDEXED_LOADS = {23: _TOP, 87: 0xFF, 279: 0xFFFF}
_WRITING = frozenset((14, 15, 21, 24, 25, 28, 31, *_LOADS))  # primary opcodes
_COMPARING = frozenset((10, 11, 31))


def constant(value: int) -> Expression:
    """Return the expression of a number."""
    return ("const", value & _TOP)


def terms(expression: Expression) -> tuple[int, list[Expression]]:
    """Return an expression as a sum: its constant part and the other parts."""
    if expression[0] == "const":
        return int(expression[1]), []  # type: ignore[call-overload]
    if expression[0] == "add":
        one, other = terms(expression[1]), terms(expression[2])  # type: ignore[arg-type]
        return one[0] + other[0] & _TOP, one[1] + other[1]
    return 0, [expression]


def _add(one: Expression, other: Expression) -> Expression:
    if other[0] == "const" and one[0] not in ("const", "add"):
        return ("add", one, other) if other[1] else one
    number, parts = terms(("add", one, other))
    parts.sort(key=repr)
    result: Expression | None = None
    for part in parts:
        result = part if result is None else ("add", result, part)
    if result is None:
        return constant(number)
    return ("add", result, constant(number)) if number else result


def most(expression: Expression) -> int:
    """Return the most that an expression can be as an unsigned number."""
    match expression:
        case ("const", int(value)):
            return value
        case ("and", masked, int(mask)):
            return min(mask, most(masked))  # type: ignore[arg-type]
        case ("at", _, int(limit)) | ("load", _, _, int(limit)):
            return limit
    return _TOP


def _rotate(value: Expression, word: int, index: int) -> Expression:
    """Return the result of rlwinm."""
    shift, mask = word >> 11 & 31, rotation_mask(word)
    if value[0] == "const":
        number = int(value[1])  # type: ignore[call-overload]
        return constant((number << shift | number >> (32 - shift)) & mask)
    if mask & ((1 << shift) - 1):
        return ("at", index, mask)
    kept = mask >> shift
    if kept & (kept + 1):
        return ("at", index, mask)
    if kept < _TOP >> shift:
        value = value if most(value) <= kept else ("and", value, kept)
    return ("shl", value, shift) if shift else value


@dataclass
class State:
    """What is known of the registers, the last comparisons, and the limits that branches imply."""

    registers: dict[int, Expression] = field(default_factory=dict)
    fields: dict[int, tuple[bool, Expression, int]] = field(default_factory=dict)
    limits: dict[Expression, int] = field(default_factory=dict)
    lr: Expression | None = None
    ctr: Expression | None = None

    def get(self, register: int) -> Expression:
        """Return what a register holds."""
        return self.registers.get(register, ("in", register))

    def call(self, index: int) -> None:
        """Forget what a call may change."""
        for register in _VOLATILE:
            self.registers[register] = ("at", index << 6 | register, _TOP)
        for number in (0, 1, 5, 6, 7):
            self.fields.pop(number, None)
        self.lr = self.ctr = None

    def step(self, word: int, index: int, address: int, defs: int) -> None:
        """Run one instruction that is no branch; ``defs`` is the set of what it changes."""
        major = word >> 26
        result = self._result(word, index) if major in _WRITING else None
        compared = self._compare(word) if major in _COMPARING else None
        if major == 31 and word >> 1 & 0x3FF == 467:
            value = self.get(word >> 21 & 31)
            if word & 0x1FF800 == 9 << 16:
                self.ctr = value
            elif word & 0x1FF800 == 8 << 16:
                self.lr = value
        changed = defs & _TOP
        if result is not None:
            changed &= ~(1 << result[0])
        while changed:
            register = (changed & -changed).bit_length() - 1
            changed &= changed - 1
            self.registers[register] = ("at", index << 6 | register, _TOP)
        if result is not None:
            self.registers[result[0]] = result[1]
        fields = defs >> 32 & 0xFF
        while fields:
            self.fields.pop((fields & -fields).bit_length() - 1, None)
            fields &= fields - 1
        if compared is not None:
            self.fields[compared[0]] = compared[1]
        if word & 0xFC000003 == 0x40000001:  # bcl, to learn the PC
            self.lr = constant(address + 4)

    def _result(self, word: int, index: int) -> tuple[int, Expression] | None:
        """Return the register that an instruction writes and what, where that can be told."""
        major, d, a, b = word >> 26, word >> 21 & 31, word >> 16 & 31, word >> 11 & 31
        low = word & 0xFFFF
        offset = (low ^ 0x8000) - 0x8000
        if major in (14, 15):  # addi, addis
            step = offset << (16 if major == 15 else 0)
            return d, _add(self.get(a), constant(step)) if a else constant(step)
        if major in (24, 25):  # ori, oris
            value, bits = self.get(d), low << (16 if major == 25 else 0)
            if value[0] == "const":
                return a, constant(int(value[1]) | bits)  # type: ignore[call-overload]
            return (a, value) if not bits else None
        if major == 28:  # andi.
            return a, ("and", self.get(d), low)
        if major == 21:
            return a, _rotate(self.get(d), word, index)
        if major in _LOADS:
            base = self.get(a) if a else constant(0)
            return d, ("load", _add(base, constant(offset)), index, _LOADS[major])
        if major == 31:
            minor = word >> 1 & 0x3FF
            if minor in _INDEXED_LOADS:
                base = self.get(a) if a else constant(0)
                return d, ("load", _add(base, self.get(b)), index, _INDEXED_LOADS[minor])
            if minor == 266:
                return d, _add(self.get(a), self.get(b))
            if minor == 444 and d == b:
                return a, self.get(d)
            if minor == 339 and word & 0x1FF800 == 8 << 16 and self.lr is not None:
                return d, self.lr
        return None

    def _compare(self, word: int) -> tuple[int, tuple[bool, Expression, int]] | None:
        """Return the field that a comparison with a number sets: (unsigned, value, number)."""
        major, a, b, low = word >> 26, word >> 16 & 31, word >> 11 & 31, word & 0xFFFF
        if major == 10:
            return word >> 23 & 7, (True, self.get(a), low)
        if major == 11:
            return word >> 23 & 7, (False, self.get(a), signed(low, 16))
        if major == 31 and word >> 1 & 0x3FF in (0, 32):
            number = self.get(b)
            if number[0] == "const":
                value = int(number[1])  # type: ignore[call-overload]
                unsigned = word >> 1 & 0x3FF == 32
                return word >> 23 & 7, (unsigned, self.get(a), value if unsigned else signed(value, 32))
        return None

    def branch(self, word: int, taken: bool) -> None:
        """Learn from a conditional branch that it was taken, or that it was not."""
        options, bit = word >> 21 & 31, word >> 16 & 31
        known = self.fields.get(bit >> 2)
        if options & 0x14 != 4 or known is None:
            return
        unsigned, value, number = known
        holds = bool(options & 8) == taken
        if not unsigned and most(value) > _TOP >> 1:
            return  # a negative index passes a signed comparison
        match bit & 3, holds:
            case (0, True):
                limit = number - 1
            case (1, False) | (2, True):
                limit = number
            case _:
                return
        if limit >= 0:
            self.limits[value] = min(limit, self.limits.get(value, _TOP))

    def limit(self, value: Expression) -> int:
        """Return the most that a value can be, by its form and by the branches taken."""
        found = min(most(value), self.limits.get(value, _TOP))
        match value:
            case ("and", tuple(masked), _):
                found = min(found, self.limits.get(masked, _TOP))
        return found
