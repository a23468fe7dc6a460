"""Read a trace program; errors show the place."""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, VisitError

from kgdbpatch.errors import Misuse
from kgdbpatch.tracing.syntax import (
    Assign,
    Binary,
    Block,
    Call,
    Cast,
    Choice,
    Effect,
    Every,
    Expression,
    If,
    Index,
    Local,
    Map,
    MemberOf,
    Name,
    Number,
    Probe,
    Program,
    SizeOf,
    Spec,
    Step,
    Stop,
    Text,
    Unary,
)

__all__ = ["parse", "wrong"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_MOST = 64 << 10  # characters
_WORDS = {
    "TARGET": "a function",
    "NAME": "a name",
    "NUMBER": "a number",
    "IF": "if",
    "LBRACE": "{",
    "RBRACE": "}",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "SEMICOLON": ";",
    "STRING": "a string",
    "DURATION": "a time (1s, 100ms)",
}


@cache
def _grammar() -> Lark:
    text = files("kgdbpatch.tracing").joinpath("grammar.lark").read_text()
    return Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def wrong(text: str, at: int, what: str) -> Misuse:
    """Return the error that says ``what`` is wrong at a place of a program, and shows it."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[begin : end if end >= 0 else len(text)]
    number = text.count("\n", 0, at) + 1
    error = Misuse(f"{what} (line {number}, column {at - begin + 1} of the program)")
    shown = line.replace("\t", " ")
    start = max(0, at - begin - 60)
    error.add_note(f"| {shown[start : start + 100]}")
    error.add_note(f"| {' ' * (at - begin - start)}^")
    return error


def parse(text: str) -> Program:
    """Return the program that a text is; raise `Misuse` with the place where it is none."""
    if len(text) > _MOST:
        raise Misuse(f"a program of {len(text):,} characters; {_MOST:,} at most are read")
    if not text.strip():
        raise Misuse("an empty program: give at least FUNCTION { count() }")
    try:
        tree = _grammar().parse(text)
        items = _Maker(text).transform(tree)
    except UnexpectedInput as error:
        _unexpected(text, error)
    except VisitError as error:
        raise error.orig_exc from None
    except RecursionError:
        raise Misuse("the program is nested too deep") from None
    probes = tuple(item for item in items if isinstance(item, Probe))
    return Program(text, probes, tuple(item for item in items if isinstance(item, Every)))


def _unexpected(text: str, error: UnexpectedInput) -> NoReturn:
    allowed = getattr(error, "accepts", None) or getattr(error, "allowed", None) or ()
    told = sorted({_WORDS[name] for name in allowed if name in _WORDS})
    hint = f"; {' or '.join(told)} would do" if 0 < len(told) <= 5 else ""
    if isinstance(error, UnexpectedEOF) or (
        not isinstance(error, UnexpectedCharacters) and str(getattr(error, "token", "")) == ""
    ):
        raise wrong(text, len(text.rstrip()), f"the program ends too early{hint}") from None
    at = error.pos_in_stream or 0
    word = text[at : at + 1]
    token = getattr(error, "token", None)
    word = str(token) if token is not None else word
    raise wrong(text, at, f"'{word}' is not expected here{hint}") from None


def _chain(children: list[Any], operator: str | None = None) -> Expression:
    """Return operands with operators between them, or all with the same one, grouped from the left."""
    left, *rest = children
    if operator is not None:
        for right in rest:
            left = Binary(operator, left, right)
    else:
        for sign, right in zip(rest[::2], rest[1::2], strict=True):
            left = Binary(str(sign), left, right)
    made: Expression = left
    return made


class _Maker(Transformer[Token, Any]):
    """Makes `syntax` of lark's tree."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, items: list[Any]) -> list[Any]:
        return items

    def every(self, parts: list[Any]) -> Every:
        _, duration, block = parts
        unit = next(unit for unit in ("ms", "s", "m") if duration.endswith(unit))
        seconds = float(duration.removesuffix(unit)) * _UNITS[unit]
        if not 0.05 <= seconds <= 86400:
            raise wrong(self._text, duration.start_pos or 0, f"every {duration}: from 50ms to a day")
        return Every(seconds, block)

    def probe(self, parts: list[Any]) -> Probe:
        specs, *condition, block = parts
        return Probe(tuple(specs), condition[1] if condition else None, block)

    def specs(self, parts: list[Spec]) -> list[Spec]:
        return parts

    def spec(self, parts: list[Any]) -> Spec:
        target, names, returns = parts[0], (), False
        for part in parts[1:]:
            if isinstance(part, Token):
                returns = True
            else:
                names = part
        text = str(target)
        return Spec(
            text.removesuffix(":return"), tuple(names), returns or text.endswith(":return"), target.start_pos
        )

    def parameters(self, names: list[Token]) -> tuple[str, ...]:
        return tuple(str(name) for name in names)

    def block(self, statements: list[Any]) -> Block:
        return tuple(statements)

    def if_block(self, parts: list[Any]) -> If:
        _, condition, then, *rest = parts
        other = rest[1] if rest else ()
        return If(condition, then, (other,) if isinstance(other, If) else other)

    def effect(self, parts: list[Any]) -> Effect:
        return Effect(parts[0])

    def assign(self, parts: list[Any]) -> Assign:
        return Assign(parts[0], str(parts[1]), parts[2])

    def step(self, parts: list[Any]) -> Step:
        return Step(parts[0], str(parts[1]))

    def stop(self, _: list[Any]) -> Stop:
        return Stop()

    def choice(self, parts: list[Any]) -> Choice:
        return Choice(*parts)

    def either(self, parts: list[Any]) -> Expression:
        return _chain(parts, "||")

    def both(self, parts: list[Any]) -> Expression:
        return _chain(parts, "&&")

    def bit_or(self, parts: list[Any]) -> Expression:
        return _chain(parts, "|")

    def bit_xor(self, parts: list[Any]) -> Expression:
        return _chain(parts, "^")

    bit_and = equal = compared = shifted = added = multiplied = lambda self, parts: _chain(parts)

    def unary(self, parts: list[Any]) -> Unary:
        return Unary(str(parts[0]), parts[1])

    def cast(self, parts: list[Any]) -> Cast:
        return Cast(" ".join(str(parts[0]).split()), parts[1])

    def member(self, parts: list[Any]) -> MemberOf:
        owner, operator, name = parts
        return MemberOf(owner, str(operator), str(name), name.start_pos)

    def index(self, parts: list[Any]) -> Index:
        return Index(*parts)

    @v_args(inline=True)
    def number(self, token: Token) -> Number:
        value = int(token, 0) if token.lower().startswith("0x") else int(token)
        if value >= 1 << 64:
            raise wrong(self._text, token.start_pos or 0, f"{token} has more than 64 bits")
        return Number(value)

    @v_args(inline=True)
    def string(self, token: Token) -> Text:
        try:
            value = ast.literal_eval(str(token).replace("\n", "\\n"))
        except (ValueError, SyntaxError):
            raise wrong(self._text, token.start_pos or 0, f"{token} is no string") from None
        return Text(str(value), token.start_pos or 0)

    def size_of(self, parts: list[Any]) -> SizeOf:
        return SizeOf(" ".join(str(parts[1]).split()))

    @v_args(inline=True)
    def name(self, token: Token) -> Name:
        return Name(str(token), token.start_pos or 0)

    def call(self, parts: list[Any]) -> Call:
        name, *arguments = parts
        return Call(str(name), tuple(arguments), name.start_pos)

    def map(self, parts: list[Any]) -> Map:
        name, *keys = parts
        return Map(str(name), tuple(keys), name.start_pos)

    @v_args(inline=True)
    def local(self, token: Token) -> Local:
        return Local(str(token), token.start_pos or 0)
