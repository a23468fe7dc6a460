"""Write values of structures for people: a member a line, with where each is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from kgdbpatch.variables.shape import Shape
from kgdbpatch.variables.values import Value, show

__all__ = ["lines", "plain"]

_FEW = 4  # equal elements that are written one by one


def plain(value: Value) -> Any:
    """Return a value as JSON has it; bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def lines(
    shape: Shape, value: Value, symbolize: Callable[[int], str], offset: int = 0, depth: int = 0
) -> Iterator[str]:
    """Yield lines, each with the offset of what it tells of; a plain value is one line without."""
    margin = "  " * depth
    if isinstance(value, dict):
        for field in shape.fields:
            at = offset + field.bit // 8
            name = f"{field.name}:{field.bits}" if field.bits else field.name
            yield from _part(field.shape, value[field.name], symbolize, at, depth, name)
    elif isinstance(value, list) and shape.element is not None and _is_large(value):
        size = shape.element.size
        for number, one in enumerate(value):
            yield from _part(shape.element, one, symbolize, offset + number * size, depth, f"[{number}]")
    else:
        yield f"{margin}{_short(shape, value, symbolize)}"


def _part(
    shape: Shape, value: Value, symbolize: Callable[[int], str], at: int, depth: int, name: str
) -> Iterator[str]:
    head = f"{at:#06x}  {'  ' * depth}{name} = "
    if isinstance(value, dict) or (isinstance(value, list) and _is_large(value)):
        yield f"{at:#06x}  {'  ' * depth}{name}: {shape.text}"
        yield from lines(shape, value, symbolize, at, depth + 1)
        return
    yield head + _short(shape, value, symbolize)


def _is_large(value: list[Value]) -> bool:
    """Tell whether a list is of what takes lines of its own."""
    return bool(value) and isinstance(value[0], dict | list)


def _short(shape: Shape, value: Value, symbolize: Callable[[int], str]) -> str:
    if not isinstance(value, list) or shape.element is None:
        return show(shape, value, symbolize)
    parts = []
    for told, group in groupby(show(shape.element, one, symbolize) for one in value):
        count = len([*group])
        parts += [f"{told} × {count}"] if count > _FEW else [told] * count
    return "{" + ", ".join(parts) + "}"
