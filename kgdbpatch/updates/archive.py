"""Update files (.kup): a zip of update.toml and objects, written the same every time, read strictly."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from kgdbpatch.errors import BadPatch
from kgdbpatch.updates.elf_object import ElfObject
from kgdbpatch.updates.manifest import Manifest, Member
from kgdbpatch.updates.zipped import unzipped, zipped

__all__ = ["Update", "member", "parse_update", "read_file", "read_update", "write_update"]

_MANIFEST = "update.toml"
_OBJECT = re.compile(r"objects/[A-Za-z0-9_][A-Za-z0-9_.-]{0,80}\.o")
_MOST_MEMBERS, _MOST_BYTES = 64, 64 << 20


@dataclass(frozen=True)
class Update:
    """An update: what it says of itself, and its objects by their path in the file."""

    manifest: Manifest
    objects: Mapping[str, bytes]


def member(path: str, data: bytes) -> Member:
    """Return what a manifest says of an object."""
    return Member(path, len(data), hashlib.sha256(data).hexdigest())


def write_update(update: Update, path: Path) -> None:
    """Write an update to a file, which is there whole or not at all."""
    data = zipped({_MANIFEST: update.manifest.to_toml().encode(), **dict(sorted(update.objects.items()))})
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(data)
                file.close()
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(file.name, 0o666 & ~mask)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise BadPatch(f"{path}: cannot be written: {error.strerror}") from error


def read_update(path: Path) -> Update:
    """Read an update file; `BadPatch` in one line where it is damaged, hostile or of another format."""
    return parse_update(read_file(path), path)


def read_file(path: Path) -> bytes:
    """Return the bytes of an update file; `BadPatch` where it cannot be read or is too large."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadPatch(f"{path}: {error.strerror}") from error
    if len(raw) > _MOST_BYTES:
        raise BadPatch(f"{path}: more than {_MOST_BYTES >> 20} MiB")
    return raw


def parse_update(raw: bytes, path: Path) -> Update:
    """Return the update that the bytes of a file are; as `read_update`."""
    members = unzipped(raw, path, "no update file", _MOST_MEMBERS, _odd)
    try:
        text = members.pop(_MANIFEST).decode()
    except UnicodeDecodeError as error:
        raise BadPatch(f"{path}: {_MANIFEST} is no UTF-8") from error
    manifest = Manifest.from_toml(text, f"{path}: {_MANIFEST}")
    _check(manifest, members, path)
    return Update(manifest, members)


def _odd(names: list[str]) -> str | None:
    if _MANIFEST not in names:
        return f"no {_MANIFEST} in it"
    odd = next((name for name in names if name != _MANIFEST and not _OBJECT.fullmatch(name)), None)
    return None if odd is None else f"a member is called {odd[:80]!r}; objects are objects/NAME.o"


def _check(manifest: Manifest, objects: dict[str, bytes], path: Path) -> None:
    """Check that the objects are those that the manifest names, and have what it names."""
    told = {one.path: one for one in manifest.object}
    if len(told) != len(manifest.object) or told.keys() != objects.keys():
        odd = sorted(told.keys() ^ objects.keys()) or ["an object"]
        raise BadPatch(f"{path}: {odd[0][:80]} is in the manifest or in the file, not in both")
    defined: set[str] = set()
    for name, data in objects.items():
        if member(name, data) != told[name]:
            raise BadPatch(f"{path}: {name} is not as the manifest says: damaged or changed")
        elf = ElfObject.parse(data, f"{path}: {name}")
        defined |= {symbol.name for symbol in elf.symbols if symbol.section > 0}
    wanted = [one.symbol for one in manifest.function] + [one.symbol for one in manifest.data]
    calls = manifest.callbacks
    wanted += filter(None, astuple(calls))
    if lost := next((name for name in wanted if name not in defined), None):
        raise BadPatch(f"{path}: no object has the symbol {lost:.80}")
