"""Zip files of ours: written the same every time, read strictly, all of it or a line that says why not."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from kgdbpatch.errors import BadPatch

__all__ = ["unzipped", "zipped"]

_MOST_BYTES = 64 << 20
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows
_MODE = 0o100644 << 16


def zipped(members: Mapping[str, bytes], *, deflated: bool = True) -> bytes:
    """Return a zip file of members in their order, the same for the same ones."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr, info.create_system = _MODE, 3
            info.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            archive.writestr(info, data, compresslevel=6)
    return buffer.getvalue()


def unzipped(
    raw: bytes, path: Path, what: str, most: int, check: Callable[[list[str]], str | None]
) -> dict[str, bytes]:
    """Return the members of a zip file, at most ``most``; ``path`` and ``what`` are for messages.

    ``check(names)`` tells what is wrong with their names, or None. Raises `BadPatch`.
    """
    left, found = _MOST_BYTES, {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            rows = archive.infolist()
            if len(rows) > most:
                raise BadPatch(f"{path}: {len(rows)} members, {most} at most are read")
            names = [row.filename for row in rows]
            wrong = check(names)
            if wrong is not None:
                raise BadPatch(f"{path}: {wrong}")
            if len(set(names)) != len(names):
                raise BadPatch(f"{path}: a member is there twice")
            for row in rows:
                with archive.open(row) as file:  # what the archive says of sizes need not be so
                    found[row.filename] = file.read(left + 1)
                left -= len(found[row.filename])
                if left < 0:
                    raise BadPatch(f"{path}: more than {_MOST_BYTES >> 20} MiB unpacked")
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        if isinstance(error, BadPatch):
            raise
        raise BadPatch(f"{path}: {what}, or a damaged one: {error}") from error
    return found
