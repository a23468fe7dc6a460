"""Set files: the updates of a guest in the order in which they were applied, to apply them elsewhere."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from kgdbpatch.errors import BadPatch

__all__ = ["packed_set", "updates_of"]

_MEMBER = re.compile(r"updates/[0-9]{3}-[A-Za-z0-9_.+-]{1,100}\.kup")
_MOST, _MOST_BYTES = 999, 64 << 20
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows


def packed_set(updates: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a set file of updates, (name, bytes of the file), the same for the same ones."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number, (name, data) in enumerate(updates, 1):
            archive.writestr(zipfile.ZipInfo(f"updates/{number:03}-{name}.kup", _TIME), data)
    return held.getvalue()


def updates_of(raw: bytes, path: Path) -> list[bytes]:
    """Return the update files in a file: itself, or those of a set in their order.

    Raises `BadPatch` for a damaged set.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            rows = archive.infolist()
            if not any(row.filename.startswith("updates/") for row in rows):
                return [raw]
            names = [row.filename for row in rows]
            odd = next((name for name in names if not _MEMBER.fullmatch(name)), None)
            if odd is not None or len(set(names)) != len(names) or len(names) > _MOST:
                raise BadPatch(
                    f"{path}: a set has updates/NNN-NAME.kup alone, not {str(odd or names[0])[:80]!r}"
                )
            if sum(row.file_size for row in rows) > _MOST_BYTES:
                raise BadPatch(f"{path}: more than {_MOST_BYTES >> 20} MiB unpacked")
            return [archive.read(name) for name in sorted(names)]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BadPatch(f"{path}: no update file, or a damaged one: {error}") from error
