"""Calls of functions of known prototypes: arguments checked and converted, the value told by its type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import MemoryFault, Misuse, Refused, UnknownSymbol
from kgdbpatch.image.near import close_names
from kgdbpatch.isa.abi import ABI
from kgdbpatch.kernel.called import argument
from kgdbpatch.types.declare import prototype, spelling
from kgdbpatch.types.model import (
    Array,
    Base,
    Enum,
    Function,
    Parameter,
    Pointer,
    Record,
    Type,
    Void,
    stripped,
)
from kgdbpatch.types.model import Function as Prototype

if TYPE_CHECKING:
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Told", "passed", "told"]

_NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})")
_TRUTH = {"false": 0, "true": 1}
_MOST_TEXT, _PAGE = 256, 4096  # bytes
_SHOWN = 8  # constants of an enumeration in a message


class Told(NamedTuple):
    """A function's value: the bits, what they are by its type, how people read that."""

    value: int | None
    signed: int | None
    text: str


class _Parameter(NamedTuple):
    kind: Type
    told: str  # "parameter 2 (len)"


def passed(
    function: Prototype,
    given: Sequence[str | int | bytes],
    image: Image,
    resolve: Callable[[str], int],
) -> list[int | bytes]:
    """Return the words to be passed of what is given: words as on a command line, numbers, C strings.

    Raises `Misuse` for other arguments than the prototype wants, `Refused` (rule ``floating point``).
    """
    name = function.name or "the function"
    _check_result(function, name)
    parameters = [_parameter(one, f"parameter {at}", name) for at, one in enumerate(function.parameters, 1)]
    known = function.prototyped or bool(parameters)
    few, many = len(given) < len(parameters), len(given) > len(parameters) and not function.variadic
    if known and (few or many):
        wanted = len(parameters)
        least = "at least " if function.variadic else ""
        told = f"{name} takes {least}{wanted} argument{'s' * (wanted != 1)}, {len(given)} given"
        raise Misuse(f"{told}: {prototype(function)}")
    words = list[int | bytes]()
    for number, word in enumerate(given):
        if number < len(parameters):
            words += _words(parameters[number], word, image, resolve, len(words))
        else:
            words.append(argument(word, image, resolve) if isinstance(word, str) else word)
    return words


def _parameter(given: Parameter, called: str, function: str) -> _Parameter:
    match given:
        case Parameter(name, kind):
            return _Parameter(kind, f"{called}{f' ({name})' if name else ''} of {function}")


def _check_result(function: Prototype, name: str) -> None:
    result = stripped(function.returns)
    if _is_float(result):
        raise _floating(f"{name} returns '{spelling(function.returns)}'")
    if isinstance(result, Record):
        told = f"{name} returns '{spelling(function.returns)}' where its first word points"
        raise Misuse(f"{told}: pass that word, and let nobody check (--untyped)")


def _floating(what: str) -> Refused:
    return Refused("floating point", f"{what}: floating point is off in kernel code, none is passed")


def _is_float(type_: Type) -> bool:
    return isinstance(type_, Base) and type_.encoding in ("float", "complex")


def _words(
    parameter: _Parameter, word: str | int | bytes, image: Image, resolve: Callable[[str], int], before: int
) -> Iterator[int | bytes]:
    """Yield the words of one argument; ``before`` is how many are passed before it."""
    type_, shown = stripped(parameter.kind), f"{parameter.told}, '{spelling(parameter.kind)}'"
    if _is_float(type_):
        raise _floating(f"{shown}")
    if isinstance(type_, Record):
        raise Misuse(
            f"{shown}: no structure is passed; pass what the ABI does, and check nothing (--untyped)"
        )
    if isinstance(type_, (Pointer, Array, Function)):
        yield _pointer(type_, shown, word, image, resolve)
        return
    number = _integer(type_, shown, word, image, resolve)
    size = type_.size or 4
    if size > 4:
        if _aligned(image.abi) and before % 2:
            yield 0  # a pair begins with an odd register
        yield number >> 32 & 0xFFFF_FFFF
    yield number & 0xFFFF_FFFF


def _aligned(abi: ABI) -> bool:
    """Tell whether 64 bits are passed in r3:r4, r5:r6 and so on alone: System V's, but not Darwin's."""
    return abi.name != "darwin"


def _pointer(
    type_: Type, shown: str, word: str | int | bytes, image: Image, resolve: Callable[[str], int]
) -> int | bytes:
    value = word if not isinstance(word, str) else 0 if word == "NULL" else argument(word, image, resolve)
    if isinstance(value, bytes):
        target = stripped(type_.target) if isinstance(type_, (Pointer, Array)) else None
        if not isinstance(target, Void) and not (isinstance(target, Base) and target.bytes == 1):
            raise Misuse(f"{shown}: a text is none")
    return value


def _integer(
    type_: Type, shown: str, word: str | int | bytes, image: Image, resolve: Callable[[str], int]
) -> int:
    """Return a number that fits a type of integers, extended as its signedness has it."""
    if isinstance(word, bytes) or (isinstance(word, str) and word.strip()[:1] == '"'):
        raise Misuse(f"{shown}: a text is none")
    number = int(word) if isinstance(word, int) else _constant(type_, shown, word.strip(), image, resolve)
    truth = isinstance(type_, Base) and type_.encoding == "bool"
    bits = 1 if truth else 8 * (type_.size or 4)
    least = 0 if truth else -(1 << bits - 1)
    if not least <= number < 1 << bits:
        raise Misuse(f"{shown}: {word} does not fit")
    signed = isinstance(type_, Enum) or (isinstance(type_, Base) and type_.encoding == "signed")
    if signed and number >> bits - 1 == 1:
        return number - (1 << bits)
    return number if signed else number & (1 << bits) - 1


def _constant(type_: Type, shown: str, word: str, image: Image, resolve: Callable[[str], int]) -> int:
    if _NUMBER.fullmatch(word):
        return int(word, 16) if "x" in word.lower() else int(word)
    if isinstance(type_, Base) and type_.encoding == "bool" and word in _TRUTH:
        return _TRUTH[word]
    if isinstance(type_, Enum):
        values = dict(type_.values)
        if word in values:
            return values[word]
        near = close_names(word, values) or [name for name, _ in type_.values[:_SHOWN]]
        raise Misuse(f"{shown}, has no constant '{word}'; there are: {', '.join(near)}")
    try:
        value = argument(word, image, resolve)
    except UnknownSymbol as error:
        raise Misuse(f"{shown}: {error}") from error
    assert isinstance(value, int)  # texts were told before
    return value


def told(kernel: Kernel, function: Prototype, value: int, low: int) -> Told:
    """Return what a function gave that returned ``value`` in r3, ``low`` in r4."""
    result = stripped(function.returns)
    if isinstance(result, Void):
        return Told(None, None, "")
    if isinstance(result, (Pointer, Array, Function)):
        return Told(value, _signed(value, 32), _place(kernel, result, value))
    size = result.size or 4
    bits = 8 * size
    value = value << 32 | low if size > 4 else value & (1 << bits) - 1
    signed = _signed(value, bits)
    digits = f"0x{value:0{max(2 * size, 8)}x}"
    if isinstance(result, Enum):
        names = [name for name, number in result.values if number in (signed, value)]
        return Told(value, signed, f"{names[0]} ({signed})" if names else f"{signed} ({digits})")
    if isinstance(result, Base) and result.encoding == "bool":
        return Told(value, value, "true" if value else "false")
    positive = isinstance(result, Base) and result.encoding == "unsigned"
    return Told(value, signed, f"{value if positive else signed} ({digits})")


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def _place(kernel: Kernel, type_: Type, value: int) -> str:
    if not value:
        return "NULL"
    shown = f"0x{value:08x}"
    target = stripped(type_.target) if isinstance(type_, (Pointer, Array)) else None
    if isinstance(target, Base) and target.bytes == 1 and target.name.endswith("char"):
        text = _text(kernel, value)
        return shown if text is None else f'{shown} "{text}"'
    symbol = kernel.symbolize(value)
    return shown if symbol.startswith("0x") else f"{shown} ({symbol})"


def _text(kernel: Kernel, address: int) -> str | None:
    """Return the C string at an address as C spells it; None where there is none."""
    held = b""
    while len(held) < _MOST_TEXT and b"\0" not in held:
        at = address + len(held)
        try:
            held += kernel.read_virtual(at, min(_PAGE - at % _PAGE, _MOST_TEXT))
        except MemoryFault:
            break
    text, end, _ = held[:_MOST_TEXT].partition(b"\0")
    if not held:
        return None
    spelt = text.decode("ascii", "backslashreplace").replace('"', '\\"').encode("unicode_escape").decode()
    return spelt.replace("\\\\", "\\") + ("" if end else "…")
