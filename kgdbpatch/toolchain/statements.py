"""Take assembler source apart for an engine that knows single instructions with plain numbers only."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import add, mul, sub

from kgdbpatch.errors import BadPatch, OutOfReach

__all__ = [
    "Program",
    "Statement",
    "checked",
    "displacement",
    "no_base_r0",
    "no_text",
    "out_of_reach",
    "parse",
    "plain",
]

_COMMENT = re.compile(r"""(?P<kept>"(?:\\.|[^"\\\n])*"|'[^\n])|/\*.*?\*/|\#[^\n]*""", re.DOTALL | re.VERBOSE)
_TEXT = re.compile(r"\s*(?:[\w.$]+\s*:\s*)*(\.(?:asci[iz]|string\w*))\b", re.IGNORECASE)
_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*|\d+)\s*:(?!:)")
_SET = re.compile(r"\s*(?:\.(?:set|equ)\s+([A-Za-z_.$][\w.$]*)\s*,|([A-Za-z_.$][\w.$]*)\s*=)\s*(.+)")
_IGNORED = {".text", ".globl", ".global", ".type", ".size", ".local", ".machine"}
_WORDS = {".long", ".int", ".word4", ".4byte"}
_TOKEN = re.compile(
    r"\s*(0[xX][0-9a-fA-F]+|\d+[bf](?!\w)|\d+|@(?:ha|h|l)(?!\w)|%?[A-Za-z_.$][\w.$]*|[-+*()])"
)

_REGISTERS = {
    f"{kind}{n}": n for kind, count in (("r", 32), ("f", 32), ("v", 32), ("cr", 8)) for n in range(count)
}
_OPERATORS: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.UAdd: add,
    ast.USub: sub,
}
_NAMES = {**_REGISTERS, "sp": 1, "lt": 0, "gt": 1, "eq": 2, "so": 3, "un": 3}


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction or ``.long`` word: its line, address, mnemonic and operands as written."""

    line: int
    address: int
    mnemonic: str
    operands: tuple[str, ...]

    @property
    def written(self) -> str:
        """The statement as it is quoted to people."""
        return f"'{self.mnemonic} {', '.join(self.operands)}'".replace(" '", "'")


@dataclass(slots=True)
class Program:
    """Source taken apart; ``value(text, statement)`` works an operand's expression out."""

    filename: str
    statements: list[Statement]
    _named: dict[str, int]
    _set: dict[str, tuple[str, int, int]]  # text, line, address
    _local: dict[int, list[int]]
    _resolve: Callable[[str], int]

    def value(self, text: str, line: int, address: int, depth: int = 0) -> int:
        """Return the value of an expression; raise `BadPatch` where it is none."""
        if depth > 16:
            raise BadPatch(f"{self.filename}:{line}: '{text}' is defined by itself")
        found = list(self._tokens(text, line))
        halves = [token for token in found if token[0] == "@"]
        tokens = [token for token in found if token[0] != "@"]

        def result(node: ast.AST) -> int:
            match node:
                case ast.Expression(body):
                    return result(body)
                case ast.Name(name):
                    return self._atom(tokens[int(name[1:])], line, address, depth)
                case ast.UnaryOp(operator, operand):
                    return _OPERATORS[type(operator)](0, result(operand))
                case ast.BinOp(left, operator, right) if type(operator) in _OPERATORS:
                    return _OPERATORS[type(operator)](result(left), result(right))
            raise SyntaxError

        try:
            if len(halves) > 1 or (halves and found[0] == halves[0]):
                raise SyntaxError
            names = (token if token in "+-*()" else f"_{number}" for number, token in enumerate(tokens))
            value = result(ast.parse(" ".join(names), mode="eval"))
        except SyntaxError:
            raise BadPatch(f"{self.filename}:{line}: cannot make sense of '{text.strip()}'") from None
        return _half(value, halves[0]) if halves else value  # a half is always that of the whole sum

    def _tokens(self, text: str, line: int) -> Iterator[str]:
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                raise BadPatch(f"{self.filename}:{line}: cannot make sense of '{text.strip()}'")
            yield match[1]
            position = match.end()

    def _atom(self, token: str, line: int, address: int, depth: int) -> int:
        if token[0].isdigit():
            if token[-1] in "bf" and token[:2].lower() != "0x":
                return self._local_label(token, line, address)
            if token[:2].lower() == "0x":
                return int(token, 16)
            try:
                return int(token, 8) if token[0] == "0" else int(token)
            except ValueError:
                raise BadPatch(f"{self.filename}:{line}: '{token}' is no octal number") from None
        if token == ".":
            return address
        name = token.removeprefix("%")
        if name.lower() in _NAMES:
            return _NAMES[name.lower()]
        if name in self._set:
            text, at, where = self._set[name]
            return self.value(text, at, where, depth + 1)
        return self._named[name] if name in self._named else self._resolve(name)

    def _local_label(self, token: str, line: int, address: int) -> int:
        places = self._local.get(int(token[:-1]), [])
        if token[-1] == "b":
            found = [place for place in places if place <= address]
            return found[-1] if found else self._no_label(token, line)
        found = [place for place in places if place > address]
        return found[0] if found else self._no_label(token, line)

    def _no_label(self, token: str, line: int) -> int:
        raise BadPatch(f"{self.filename}:{line}: no label '{token}'")


def _half(value: int, kind: str) -> int:
    if kind == "@l":
        return ((value & 0xFFFF) ^ 0x8000) - 0x8000
    return (value + (0x8000 if kind == "@ha" else 0)) >> 16 & 0xFFFF


def plain(source: str) -> str:
    """Return assembler source without its comments; lines stay where they are."""
    return _COMMENT.sub(lambda match: match["kept"] or "\n" * match[0].count("\n") or " ", source)


def displacement(statement: Statement, operand: str, where: str) -> tuple[str, str]:
    """Return the displacement and the base of ``8(r1)``; raise `BadPatch` for what is written otherwise."""
    head, _, tail = operand.rstrip().rpartition("(")
    if not operand.rstrip().endswith(")") or not tail:
        raise BadPatch(f"{where}: {statement.written}: displacement(register) is missing")
    return head or "0", tail[:-1]


def checked(statement: Statement, text: str, value: int, low: int, high: int, where: str) -> int:
    """Return an operand's value; raise `BadPatch` where it is not between ``low`` and ``high``."""
    if not low <= value <= high:
        raise BadPatch(
            f"{where}: operand {text.strip()} of '{statement.mnemonic}' is out of range "
            f"({value} is not between {low} and {high})"
        )
    return value


def no_base_r0(statement: Statement, text: str, where: str) -> None:
    """Raise `BadPatch` for r0 where a base stands, which means the number 0 there."""
    if text.strip().lower().removeprefix("%") == "r0":
        raise BadPatch(f"{where}: r0 as the base of '{statement.mnemonic}' means the number 0; write 0")


def no_text(statement: str, where: str) -> None:
    """Raise `BadPatch` for a statement that puts characters where instructions are run."""
    match = _TEXT.match(statement)
    if match:
        raise BadPatch(
            f"{where}: {match[1]}: a payload in assembler is run from its first word to its last, so text "
            "has no place in it; write the payload in C (--c), where it may have data of its own"
        )


def out_of_reach(where: str, at: int, target: int, *, linked: bool) -> OutOfReach:
    """Return the error about a relative branch at an address that does not get to its target."""
    if linked:
        way = f"load 0x{target:08x} into a register, mtctr it, and call it by bctrl"
    else:
        way = "a payload runs to its end anyway: branch to a label of its own"
    return OutOfReach(f"{where}: 0x{target:08x} is out of branch reach from 0x{at:08x}; {way}")


def parse(source: str, origin: int, resolve: Callable[[str], int], filename: str) -> Program:
    """Take ``source`` apart as it stands at ``origin``; raise `BadPatch` for what is beyond this."""
    program = Program(filename, [], {}, {}, {}, resolve)
    address = origin
    for line, text in enumerate(plain(source).split("\n"), 1):
        for part in text.split(";"):
            while match := _LABEL.match(part):
                _define(program, match[1], address, line)
                part = part[match.end() :]
            if not part.strip():
                continue
            no_text(part, f"{filename}:{line}")
            if match := _SET.fullmatch(part):
                name, earlier = match[1] or match[2], program._set.get(match[1] or match[2])
                if earlier is not None or name in program._named:
                    raise BadPatch(f"{filename}:{line}: '{name}' is given two values; that needs GNU as")
                program._set[name] = (match[3], line, address)
                continue
            mnemonic, *rest = part.split(None, 1)
            operands = tuple(item.strip() for item in rest[0].split(",")) if rest else ()
            for statement in _statements(filename, line, address, mnemonic.lower(), operands):
                program.statements.append(statement)
                address += 4
    return program


def _define(program: Program, name: str, address: int, line: int) -> None:
    if name.isdigit():
        program._local.setdefault(int(name), []).append(address)
    elif name in program._named or name in program._set:
        raise BadPatch(f"{program.filename}:{line}: symbol '{name}' is already defined")
    else:
        program._named[name] = address


def _statements(
    filename: str, line: int, address: int, mnemonic: str, operands: tuple[str, ...]
) -> Iterator[Statement]:
    if mnemonic in _WORDS:
        for index, operand in enumerate(operands):
            yield Statement(line, address + 4 * index, ".long", (operand,))
    elif mnemonic not in _IGNORED:
        if mnemonic.startswith("."):
            raise BadPatch(f"{filename}:{line}: {mnemonic} needs GNU as, which is not installed")
        yield Statement(line, address, mnemonic, operands)
