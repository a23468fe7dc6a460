"""Assemble payloads written by users, for the address where they will stand.

By GNU as, the reference; where it is not installed by keystone, fenced in. The spelling is GNU's with names
of registers (``r3``, ``%r3``, ``3``; ``cr7``, ``4*cr1+eq``); a number given to a branch is an address. Names
not defined are the kernel's; Darwin's ``lo16(netisr)(r3)``, ``ha16()`` and ``hi16()`` are understood as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from kgdbpatch.errors import BadPatch, Misuse, UnknownSymbol
from kgdbpatch.toolchain.gnu import available
from kgdbpatch.toolchain.gnu_as import assemble_gnu

__all__ = ["Engine", "assemble"]

Engine = Literal["auto", "gnu", "keystone"]

_HALVES = {"lo16": "@l", "ha16": "@ha", "hi16": "@h"}
_DARWIN_HALF = re.compile(r"\b(lo16|ha16|hi16)\(([^()\n]+)\)")


def assemble(
    source: str,
    *,
    origin: int,
    symbols: Mapping[str, int] | Callable[[str], int] | None = None,
    filename: str = "<asm>",
    engine: Engine = "auto",
    model: str = "",
) -> bytes:
    """Return the big-endian code of ``source`` as it stands at the address ``origin``.

    ``symbols`` are the kernel's. Raises `BadPatch` as ``file:line: message``.
    """
    if origin & 3 or not 0 <= origin <= 0xFFFF_FFFC:
        raise Misuse(f"0x{origin:x} is no place for code")
    if engine not in {"auto", "gnu", "keystone"}:
        raise Misuse(f"no assembler '{engine}': auto, gnu or keystone")
    if engine == "auto":
        engine = "gnu" if available("as") and available("ld") else "keystone"
    if "\0" in source:
        raise BadPatch(f"{filename}: not a text file")
    source = _DARWIN_HALF.sub(lambda half: half[2].strip() + _HALVES[half[1]], source)

    def resolve(name: str, text: str) -> int:
        try:
            return _lookup(symbols, name)
        except (UnknownSymbol, Misuse) as error:
            raise BadPatch(f"{filename}:{_line_of(name, text)}: {error}") from error

    if engine == "gnu":
        return assemble_gnu(source, origin, resolve, filename, model)
    from kgdbpatch.toolchain.keystone_as import assemble_keystone

    return assemble_keystone(source, origin, resolve, filename, model)


def _lookup(symbols: Mapping[str, int] | Callable[[str], int] | None, name: str) -> int:
    if callable(symbols):
        return symbols(name)
    if symbols is None or name not in symbols:
        raise UnknownSymbol(name, "the kernel")
    return symbols[name]


def _line_of(name: str, text: str) -> int:
    found = re.search(rf"(?m)^[^#\n]*?(?<![\w.$]){re.escape(name)}(?![\w.$])", text)
    return text.count("\n", 0, found.end()) + 1 if found else 1
