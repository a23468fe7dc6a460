"""Values of C types in a guest's memory: a type as people write it, and what is there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.errors import BadImage, Misuse
from kgdbpatch.variables.of_types import shape_of
from kgdbpatch.variables.shape import Shape
from kgdbpatch.variables.values import Value, from_bytes

if TYPE_CHECKING:
    from kgdbpatch.kernel.memory import GuestMemory
    from kgdbpatch.types import KernelTypes

__all__ = ["STRING", "TypedValue", "plain_type", "read_values", "shape_named"]

STRING = "string"
_MOST = 16 << 20  # bytes of values at a time
_LONGEST = 4096  # bytes of a string where no length is given
_INTEGERS = {  # what C calls them on 32-bit PowerPC: bytes
    1: ("char", "byte"),
    2: ("short", "half"),
    4: ("int", "long", "word"),
    8: ("long long", "double word"),
}


def _plain() -> dict[str, Shape]:
    found = {
        "char": Shape("char", 1, "char"),
        "signed char": Shape("signed char", 1, "signed"),
        "bool": Shape("bool", 1, "bool"),
        "_Bool": Shape("bool", 1, "bool"),
        "unsigned": Shape("unsigned int", 4, "unsigned"),
        "size_t": Shape("size_t", 4, "unsigned"),
        "pointer": Shape("void *", 4, "pointer"),
    }
    for size, (c_name, *more) in _INTEGERS.items():
        bits = 8 * size
        for name in (f"u{bits}", f"uint{bits}_t", f"__u{bits}", more[-1]):
            found[name] = Shape(name, size, "unsigned")
        for name in (f"s{bits}", f"int{bits}_t", f"__s{bits}"):
            found[name] = Shape(name, size, "signed")
        for name in (c_name, *(["long"] if size == 4 else [])):
            found.setdefault(name, Shape(name, size, "signed"))
            found[f"unsigned {name}"] = Shape(f"unsigned {name}", size, "unsigned")
    return found


_PLAIN = _plain()
_TYPE = re.compile(
    r"(?P<base>[A-Za-z_][\w ]*?)\s*(?P<stars>(?:\*\s*)*)(?P<counts>(?:\[\s*(?:0x[0-9a-f]+|\d+)\s*\]\s*)*)"
)


@dataclass(frozen=True, slots=True)
class TypedValue:
    """A value in memory: of which ``type`` (as C spells it), bytes, and what it is."""

    address: int
    type: str
    size: int
    value: Value
    shape: Shape


def plain_type(size: int) -> str:
    """Return the name of the unsigned type of so many bytes, ``u32`` where there is none."""
    return f"u{8 * size}" if size in _INTEGERS else "u32"


def shape_named(text: str, types: Callable[[], KernelTypes]) -> Shape:
    """Return the type that somebody wrote: ``u32``, ``char [16]``, ``struct sk_buff *``, ``pid_t``.

    ``types()`` are asked for what is no plain type of C's. Raises `Misuse`, `UnknownSymbol`, `BadImage`.
    """
    words = " ".join(word for word in text.split() if word not in ("const", "volatile"))
    match = _TYPE.fullmatch(words)
    if match is None:
        raise Misuse(f"'{text}' is no type: write u32, string, 'struct sk_buff', 'char [16]', 'void *'")
    base, stars = " ".join(match["base"].split()), match["stars"].count("*")
    if stars:
        if base != "void" and base not in _PLAIN:
            types().find(base)
        shape = Shape(f"{base} {'*' * stars}", 4, "pointer")
    elif base in _PLAIN:
        shape = _PLAIN[base]
    else:
        shape = _of_kernel(base, types())
    for count in reversed(re.findall(r"0x[0-9a-f]+|\d+", match["counts"])):
        number = int(count, 16 if count.startswith("0x") else 10)
        if not 0 < number * shape.size <= _MOST:
            raise Misuse(f"'{text}' has {number * shape.size} bytes: 1 to {_MOST} can be asked for")
        spelt = re.fullmatch(r"([^\[]*?)\s*((?:\[.*)?)", shape.text)
        outer = f"{spelt[1]} [{number}]{spelt[2]}" if spelt else f"{shape.text} [{number}]"
        shape = Shape(outer, number * shape.size, "array", shape, number)
    return shape


def _of_kernel(base: str, types: KernelTypes) -> Shape:
    try:
        shape = shape_of(types.find(base))
    except (ValueError, RecursionError, LookupError) as error:
        if isinstance(error, Misuse):
            raise
        raise BadImage(types.path, f"damaged debug information: {error}") from error
    if not shape.size:
        raise Misuse(f"'{base}' has no size: it is only declared there, empty, void, or a function")
    return shape


def read_values(
    memory: GuestMemory,
    type_: str,
    address: int,
    count: int,
    physical: bool,
    types: Callable[[], KernelTypes],
) -> list[TypedValue]:
    """Return ``count`` values of a type; as `GuestMemory.read_as`."""
    if count < 1:
        raise Misuse("at least one value is to be given")
    if type_.strip() == STRING:
        return _strings(memory, address, count, physical)
    shape = shape_named(type_, types)
    if count * shape.size > _MOST:
        raise Misuse(f"{count} × {shape.size} bytes ({shape.text}) are more than {_MOST}")
    data, size = memory.read(address, count * shape.size, physical=physical), shape.size
    return [
        TypedValue(at, shape.text, size, from_bytes(shape, data[at - address :][:size]), shape)
        for at in range(address, address + count * size, size)
    ]


def _strings(memory: GuestMemory, address: int, count: int, physical: bool) -> list[TypedValue]:
    found = []
    for _ in range(count):
        text = memory.string(address, _LONGEST, physical=physical)
        size = min(len(text) + 1, _LONGEST)
        shape = Shape(f"char [{size}]", size, "array", _PLAIN["char"], size)
        found.append(TypedValue(address, shape.text, size, os.fsdecode(text), shape))
        address += size
    return found
