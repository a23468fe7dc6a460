"""Bytes as lines of a dump: address, hexadecimal in units, characters, names of what begins there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["dump"]

_ROW = 16  # bytes


def dump(address: int, data: bytes, unit: int, first: str, names: Mapping[int, str]) -> Iterator[str]:
    """Yield lines of 16 bytes, in units of so many.

    ``first`` is what the first byte is in, ``names`` (by address) what begins later.
    """
    width = _ROW * 2 + _ROW // unit - 1 + (1 if unit < _ROW // 2 else 0)
    for start in range(0, len(data), _ROW):
        row = data[start : start + _ROW]
        units = [row[at : at + unit].hex() for at in range(0, len(row), unit)]
        half = _ROW // 2 // unit
        text = " ".join(units[:half]) + "  " + " ".join(units[half:]) if half else " ".join(units)
        characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        begun = [names[at] for at in range(address + start, address + start + len(row)) if at in names]
        told = begun if start else [*dict.fromkeys((*filter(None, [first]), *begun))]
        beside = f"  {', '.join(told)}" if told else ""
        yield f"0x{address + start:08x}  {text.rstrip():<{width}}  |{characters}|{beside}"
