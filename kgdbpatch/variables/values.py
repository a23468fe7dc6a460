"""Values of variables: from bytes to Python's and back, from and to what people write (all big-endian)."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable

from kgdbpatch.errors import Misuse
from kgdbpatch.variables.shape import Shape

__all__ = ["Value", "from_bits", "from_bytes", "parse", "show", "to_bits", "to_bytes"]

Value = int | bool | str | bytes | list["Value"] | dict[str, "Value"]

_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+)")
_MOST_DIGITS = 40
_NUMBERS = ("signed", "unsigned", "char", "bool", "pointer", "enum")


def from_bytes(shape: Shape, data: bytes) -> Value:
    """Return the value of bytes: a number, a text up to its NUL, a list, members by name; else bytes."""
    if shape.kind in _NUMBERS:
        number = int.from_bytes(data[: shape.size], "big", signed=_is_signed(shape))
        return bool(number) if shape.kind == "bool" else number
    if shape.is_text:
        return os.fsdecode(data[: shape.size].split(b"\0", 1)[0])
    if shape.element is not None:
        size = shape.element.size
        return [from_bytes(shape.element, data[n * size : (n + 1) * size]) for n in range(shape.count)]
    if shape.kind in ("struct", "union"):
        found: dict[str, Value] = {}
        for field in shape.fields:
            part = data[field.bit // 8 :]
            bits = field.bits
            found[field.name] = (
                from_bits(field.shape, part, field.bit % 8, bits) if bits else from_bytes(field.shape, part)
            )
        return found
    return data[: shape.size]


def _is_signed(shape: Shape) -> bool:
    return shape.kind == "signed" or (shape.kind == "enum" and any(value < 0 for _, value in shape.values))


def _span(bit: int, bits: int) -> tuple[int, int]:
    """Return how many bytes a bit-field lies in, and how many bits of them follow it."""
    size = -(-(bit + bits) // 8)
    return size, 8 * size - bit - bits


def from_bits(shape: Shape, data: bytes, bit: int, bits: int) -> Value:
    """Return the value of a bit-field that begins ``bit`` bits behind the first of ``data``."""
    size, behind = _span(bit, bits)
    number = int.from_bytes(data[:size], "big") >> behind & ((1 << bits) - 1)
    if _is_signed(shape) and number >> (bits - 1):
        number -= 1 << bits
    return bool(number) if shape.kind == "bool" else number


def to_bits(shape: Shape, value: Value, data: bytes, bit: int, bits: int) -> bytes:
    """Return ``data`` with a bit-field changed; raise `Misuse` for what it does not hold."""
    size, behind = _span(bit, bits)
    number = _number(shape, value, bits)
    mask = (1 << bits) - 1
    whole = int.from_bytes(data[:size], "big") & ~(mask << behind) | (number & mask) << behind
    return whole.to_bytes(size, "big")


def _number(shape: Shape, value: Value, bits: int) -> int:
    if isinstance(value, str) and shape.kind == "enum":
        named = dict(shape.values)
        if value not in named:
            raise Misuse(f"{shape.text} has no '{value}': {', '.join(named)}")
        value = named[value]
    if isinstance(value, str | bytes) and shape.kind == "char" and len(value) == 1:
        value = ord(value)
    if not isinstance(value, int):
        raise Misuse(f"{_told(value)} is no value of {shape.text}")
    signed = _is_signed(shape)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if shape.kind == "bool":
        high = 1
    if not low <= value <= high:
        what = f"{bits} bits of {shape.text}" if bits != 8 * shape.size else shape.text
        raise Misuse(f"{value} is out of range: {what} holds {low} to {high}")
    return int(value)


def _told(value: Value) -> str:
    return f"'{value}'" if isinstance(value, str) else repr(value)


def to_bytes(shape: Shape, value: Value, before: bytes) -> bytes:
    """Return the bytes of a value; raise `Misuse` for what the type does not hold.

    ``before`` are the present ones: members that a structure's ``value`` does not name stay as they are.
    """
    if shape.kind in _NUMBERS:
        number = _number(shape, value, 8 * shape.size)
        return number.to_bytes(shape.size, "big", signed=_is_signed(shape))
    if isinstance(value, str) and shape.element is not None and shape.element.size == 1:
        value = os.fsencode(value)
    if isinstance(value, bytes):
        if len(value) > shape.size:
            raise Misuse(f"{len(value)} bytes do not fit into {shape.text}, which has {shape.size}")
        return value.ljust(shape.size, b"\0")
    if shape.element is not None and isinstance(value, list):
        if len(value) != shape.count:
            raise Misuse(f"{len(value)} elements for {shape.text}, which has {shape.count}")
        size = shape.element.size
        parts = [to_bytes(shape.element, one, before[n * size :][:size]) for n, one in enumerate(value)]
        return b"".join(parts)
    if shape.kind in ("struct", "union") and isinstance(value, dict):
        return _members(shape, value, before)
    raise Misuse(f"{_told(value)} is no value of {shape.text}")


def _members(shape: Shape, value: dict[str, Value], before: bytes) -> bytes:
    out, fields = bytearray(before[: shape.size]), {one.name: one for one in shape.fields}
    for name, given in value.items():
        if name not in fields:
            raise Misuse(f"{shape.text} has no member '{name}': {', '.join(fields)}")
        field = fields[name]
        at, part = field.bit // 8, bytes(out[field.bit // 8 :])
        new = (
            to_bits(field.shape, given, part, field.bit % 8, field.bits)
            if field.bits
            else to_bytes(field.shape, given, part)
        )
        out[at : at + len(new)] = new
    return bytes(out)


def parse(word: str, shape: Shape, address: Callable[[str], int]) -> Value:
    """Return the value that somebody wrote: a number, a name, a text in quotes or not, or JSON.

    ``address`` returns where a name of the kernel's or of a patch's is. Raises `Misuse`.
    """
    word = word.strip()
    if word[:1] in ("[", "{"):
        try:
            found: Value = json.loads(word)
        except ValueError as error:
            raise Misuse(f"{word} is neither a value nor JSON: {error}") from error
        return found
    if shape.element is not None and shape.element.size == 1:
        return _text(word)
    if shape.kind == "char" and word[:1] in "'\"" and len(word) > 2:
        return _text(word)
    if _NUMBER.fullmatch(word):
        if len(word) > _MOST_DIGITS:
            raise Misuse(f"{word[:_MOST_DIGITS]}… is out of range")
        sign, digits = (-1 if word[0] == "-" else 1), word.lstrip("+-")
        return sign * (int(digits, 0) if digits[:1] != "0" or not digits.isdigit() else int(digits))
    if shape.kind == "bool" and word in ("true", "false"):
        return word == "true"
    if shape.kind == "enum":
        return word
    if shape.kind in ("pointer", "unsigned", "signed") and shape.size == 4:
        return address(word)
    raise Misuse(f"'{word}' is no value of {shape.text}")


def _text(word: str) -> bytes:
    """Return the bytes of a text, which may stand in quotes as C writes it."""
    if len(word) < 2 or word[0] not in "'\"" or word[-1] != word[0]:
        return os.fsencode(word)
    try:
        found = ast.literal_eval(f"b{word[0]}{word[1:-1]}{word[0]}") if word.isascii() else None
    except (ValueError, SyntaxError) as error:
        raise Misuse(f"{word} is no text as C writes it") from error
    return found if isinstance(found, bytes) else os.fsencode(word[1:-1])


def show(shape: Shape, value: Value, symbolize: Callable[[int], str]) -> str:
    """Return a value for people, as a C initialiser."""
    if shape.kind == "pointer" and isinstance(value, int):
        named = symbolize(value) if value else ""
        return (f"0x{value:08x}" + f" ({named})" * (not named.startswith("0x"))) if value else "0"
    if shape.kind == "enum":
        return next((f"{name} ({value})" for name, one in shape.values if one == value), str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes):
        return value.hex(" ", 4)
    if isinstance(value, list) and shape.element is not None:
        return "{" + ", ".join(show(shape.element, one, symbolize) for one in value) + "}"
    if isinstance(value, dict):
        parts = (f".{one.name} = {show(one.shape, value[one.name], symbolize)}" for one in shape.fields)
        return "{" + ", ".join(parts) + "}"
    return str(value)
