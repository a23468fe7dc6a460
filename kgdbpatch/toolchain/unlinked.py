"""Tell in one line why the linker has made nothing: file, line and symbol."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kgdbpatch.errors import BadPatch, OutOfReach
from kgdbpatch.toolchain.gnu import complaint

__all__ = ["unlinked"]

_NOTES = 20  # further names that are told
_UNDEFINED = re.compile(r"^(?P<place>.*?)(?::\(\S+\))?: undefined reference to `(?P<name>.+?)'", re.MULTILINE)
_FAR = re.compile(
    r"^(?P<place>.*?)(?::\(\S+\))?: relocation truncated to fit: (?P<kind>R_PPC_\w+) against "
    r"(?:undefined )?(?:symbol )?`(?P<name>.+?)'",
    re.MULTILINE,
)
_REACHES = {
    "R_PPC_REL14": "a conditional branch reaches 32 KiB",
    "R_PPC_REL24": "a branch reaches 32 MiB",
    "R_PPC_ADDR24": "an absolute branch reaches the lowest and the highest 32 MiB",
    "R_PPC_ADDR14": "an absolute conditional branch reaches the lowest and the highest 32 KiB",
    "R_PPC_ADDR16": "16 bits do not hold an address",
    "R_PPC_UADDR16": "16 bits do not hold an address",
    "R_PPC_REL16": "16 bits do not hold the distance",
}


def unlinked(said: str, about: str, missing: Mapping[str, Exception], known: Mapping[str, int]) -> BadPatch:
    """Return the error that the linker's words mean; ``missing`` are names that nobody has, and why.

    ``known`` are those that the kernel has.
    """
    said = re.sub(r"(?m)^\S*-ld: (error: )?", "", said)
    places: dict[str, str] = {}
    for found in _UNDEFINED.finditer(said):
        if found["name"] in missing:
            places.setdefault(found["name"], _place(found["place"], about))
    if places:
        first, *others = places
        error = BadPatch(f"{places[first]}: {missing[first]}")
        for name in others[:_NOTES]:
            error.add_note(f"{places[name]}: {missing[name]}")
        return error
    far = _FAR.search(said)
    if far is None:
        return complaint(said, about, "ld")
    kind, name = far["kind"], far["name"]
    at = f" at 0x{known[name]:08x}" if name in known else ""
    reach = next((told for begin, told in _REACHES.items() if kind.startswith(begin)), "it is out of reach")
    return OutOfReach(f"{_place(far['place'], about)}: {kind} does not get to '{name}'{at}: {reach}")


def _place(told: str, about: str) -> str:
    """Return ``file:line`` of what the linker names, which is ``about`` where C came as text."""
    told = re.sub(r"^.*<stdin>", about, told.strip())
    return f"{about}: {told.strip('()')}" if told.startswith("(") else told or about
