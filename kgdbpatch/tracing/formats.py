"""Format the values of an event as C's printf does."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["formatted"]

_CONVERSION = re.compile(r"%([-0 +#]*)(\d*)(?:\.(\d+))?(?:hh|h|ll|l|z)?([diuxXcsp%])")
_WORD = 1 << 32


def formatted(text: str, values: Sequence[object]) -> str:
    """Return a format with its values filled in; numbers of 32 bits are signed or not as it says.

    >>> formatted("%s: %5d|%x", ("udp", 4294967284, 255))
    'udp:   -12|ff'
    """
    left = iter(values)

    def fill(match: re.Match[str]) -> str:
        flags, width, precision, letter = match.groups()
        if letter == "%":
            return "%"
        value = next(left)
        exact = "" if precision is None else f".{precision}"
        if letter == "s" or isinstance(value, str):
            return f"%{flags.replace('0', '').replace('#', '')}{width}{exact}s" % str(value)
        assert isinstance(value, int)
        if letter in "di":
            number = value - _WORD if _WORD // 2 <= value < _WORD else value
            return f"%{flags}{width}{exact}d" % number
        number = value if value >= 0 else value + (_WORD if value >= -_WORD // 2 else _WORD * _WORD)
        if letter == "u":
            return f"%{flags}{width}{exact}d" % number
        if letter == "c":
            return f"%{flags.replace('0', '')}{width}s" % chr(number & 0xFF)
        if letter == "p":
            return f"%{width}s" % f"0x{number:08x}"
        return f"%{flags}{width}{exact}{letter}" % number

    return _CONVERSION.sub(fill, text)
