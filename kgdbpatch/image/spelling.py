"""How a place in a kernel is spelt: by people, by ``nm``, and in the lines of an oops.

All of these mean a place::

    udp_sendmsg   udp_sendmsg+0x18   0xc0392000   c0392000   00018600   [<c0392000>]
    udp_sendmsg+0x18/0x8f0   [c0392018] udp_sendmsg+0x18/0x8f0   run+0x4/0x10 [module]
    <udp_sendmsg+24>   0xc0392018 <udp_sendmsg+24>   module:run+0x4

A number that begins with 0 is never decimal, and eight digits are an address as ``nm`` prints it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Spelling", "address_of", "is_glob", "read"]

_NUMBER = r"0[xX][0-9a-fA-F]+|0[0-9a-fA-F]*|[0-9]+"
_BRACKETS = re.compile(r"(?:\[<?(?:0[xX])?([0-9a-fA-F]{1,16})>?\]\s*)+")
_ANGLES = re.compile(r"(?:(?:0[xX])?([0-9a-fA-F]+):?\s+)?<([^<>]+)>:?")
_MODULE = re.compile(r"(.*\S)\s+\[([\w.-]+)(?: [0-9a-f]+)?\]")
_PLACE = re.compile(rf"(?P<name>[^+\s\[\]]+?)(?:\s*\+\s*(?P<offset>{_NUMBER})(?:/(?P<size>{_NUMBER}))?)?")
_BARE = re.compile(r"0[xX][0-9a-fA-F]+|0[0-9a-fA-F]{,15}|[0-9a-fA-F]{8}|[0-9]+")


class Spelling(NamedTuple):
    """A name, or a number of `address_of`; brackets' ``address``; ``size`` (bytes) as the line says."""

    name: str | None
    offset: int = 0
    size: int | None = None
    module: str | None = None
    address: int | None = None


def read(text: str) -> Spelling | None:
    """Return what a text says; None where it is no spelling of a place."""
    text = text.strip().removesuffix("(unreliable)").rstrip()
    address = None
    if brackets := _BRACKETS.match(text):  # the last one: a stack trace has the stack pointer before it
        address, text = int(brackets[1], 16), text[brackets.end() :]
        if not text:
            return Spelling(None, address=address)
    elif angles := _ANGLES.fullmatch(text):
        address, text = int(angles[1], 16) if angles[1] else None, angles[2]
    module = None
    if named := _MODULE.fullmatch(text):
        text, module = named[1], named[2]
    place = _PLACE.fullmatch(text)
    if place is None:
        return None
    size = _number(place["size"]) if place["size"] else None
    return Spelling(place["name"], _number(place["offset"] or "0"), size, module, address)


def address_of(text: str) -> int | None:
    """Return the address that a number is, None for what is no number."""
    if not _BARE.fullmatch(text):
        return None
    return int(text, 16) if len(text) == 8 else _number(text)


def is_glob(text: str) -> bool:
    """Tell whether a text names many functions and is no spelling of one place."""
    return any(mark in text for mark in "*?") or ("[" in text and read(text) is None)


def _number(text: str) -> int:
    return int(text, 16 if text.startswith("0") else 10)
