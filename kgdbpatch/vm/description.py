"""QEMU's description of the CPU's registers (GDB's manual, appendix "Target Descriptions")."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from xml.parsers import expat

from kgdbpatch.errors import TargetLost

__all__ = ["described_registers", "read_document"]

_MAIN = "target.xml"
_OF_ALL = 71  # registers that QEMU counts of every PowerPC (gdb_num_core_regs)
_PIECE = 0xFFB  # bytes asked for at once, as GDB does
_ESCAPED = re.compile(r"\}(.)", re.DOTALL)


def read_document(packet: Callable[[str], str], name: str) -> str:
    """Return a document; ``packet`` sends one packet and returns the answer. Raises `TargetLost`."""
    text = ""
    while True:
        answer = packet(f"qXfer:features:read:{name}:{len(text):x},{_PIECE:x}")
        if answer[:1] not in ("l", "m") or answer == "m":
            raise TargetLost(f"QEMU does not describe its registers: it answers {answer[:40]!r} for {name}")
        text += _ESCAPED.sub(lambda escape: chr(ord(escape[1]) ^ 0x20), answer[1:])
        if answer[0] == "l":
            return text


def described_registers(document: Callable[[str], str]) -> dict[str, tuple[int, int, int]]:
    """Return per register its number, its offset in a ``g`` packet and its size in bytes.

    ``document`` returns one by its name. A register without a number has the next; the packet holds all in
    their order; of one name the first counts. What follows the first document begins behind the registers of
    every PowerPC, the last of which (fpscr) QEMU does not describe where a CPU has no FPU. Raises
    `TargetLost` for what is no description.
    """
    rows: list[tuple[int, str, int]] = []
    behind = 0
    for name, bits, given, first in _registers(document, _MAIN, ()):
        if first and behind:
            behind = max(behind, _OF_ALL)
        try:
            number, size = int(given or behind), int(bits) // 8
        except ValueError:
            raise TargetLost(f"QEMU describes register {name!r} with {bits!r} bits as {given!r}") from None
        rows.append((number, name, size))
        behind = number + 1
    places: dict[str, tuple[int, int, int]] = {}
    offset = 0
    for number, name, size in sorted(rows):
        places.setdefault(name, (number, offset, size))
        offset += size
    return places


def _registers(
    document: Callable[[str], str], name: str, outer: tuple[str, ...]
) -> Iterator[tuple[str, str, str | None, bool]]:
    """Yield name, bits, number, and whether it is its document's first, of the registers in a document.

    Those that it includes count as well.
    """
    if name in outer:
        raise TargetLost(f"QEMU's description {name} includes itself")
    elements: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()  # without namespaces: the DTD, which is not read, declares "xi"
    parser.StartElementHandler = lambda tag, attributes: elements.append((tag, attributes))
    try:
        parser.Parse(document(name), True)
    except expat.ExpatError as error:
        raise TargetLost(f"QEMU's description {name} is no XML: {error}") from error
    first = True
    for tag, given in elements:
        if tag == "xi:include":
            yield from _registers(document, given.get("href", ""), (*outer, name))
        elif tag == "reg":
            yield given.get("name", ""), given.get("bitsize", ""), given.get("regnum"), first
            first = False
