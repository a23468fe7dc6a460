"""Set files: the updates and patches of a guest in their order, to put them in elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kgdbpatch.updates.zipped import unzipped, zipped

__all__ = ["PATCH", "UPDATE", "members_of", "packed_set"]

UPDATE, PATCH = "update", "patch"
_MEMBER = re.compile(r"updates/[0-9]{3,}-[A-Za-z0-9_.+-]{1,100}\.kup|patches/[0-9]{3,}\.zip")
_MOST = 9_999


def packed_set(members: Sequence[tuple[str, str, bytes]]) -> bytes:
    """Return a set file of (`UPDATE` or `PATCH`, name, bytes of the file), the same for the same ones."""
    named = {}
    for number, (kind, name, data) in enumerate(members, 1):
        path = f"updates/{number:03}-{name}.kup" if kind == UPDATE else f"patches/{number:03}.zip"
        named[path] = data
    return zipped(named, deflated=False)


def members_of(raw: bytes, path: Path) -> list[tuple[str, bytes]]:
    """Return (`UPDATE` or `PATCH`, bytes) of a set in its order, or of the one update that a file is.

    Raises `BadPatch` for a damaged set.
    """
    if not _is_set(raw):
        return [(UPDATE, raw)]
    found = unzipped(raw, path, "no set of updates", _MOST, _odd)
    order = sorted(found, key=lambda name: int(re.findall("[0-9]+", name)[0]))
    return [(UPDATE if name.startswith("updates/") else PATCH, found[name]) for name in order]


def _is_set(raw: bytes) -> bool:
    """Tell whether a file's first member is one of a set."""
    return raw[30:38] in (b"updates/", b"patches/")


def _odd(names: list[str]) -> str | None:
    odd = next((name for name in names if not _MEMBER.fullmatch(name)), None)
    return None if odd is None else f"a set has updates/NNN-NAME.kup and patches/NNN.zip, not {odd[:80]!r}"
