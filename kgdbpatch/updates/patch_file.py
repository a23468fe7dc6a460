"""Files of patches that are no updates: what is put where, its text, and what that was compiled to."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from kgdbpatch.errors import BadPatch
from kgdbpatch.updates.zipped import unzipped, zipped

__all__ = ["PatchFile"]

_MANIFEST = "patch.toml"
_MEMBER = re.compile(r"patch\.toml|payload\.s|(sources|objects)/[0-9]{2}/[^/.\x00-\x1f][^/\x00-\x1f]{0,200}")
_FORMAT, _MOST = 1, 256
_KINDS = ("count", "asm", "call", "c", "return")


@dataclass(frozen=True)
class PatchFile:
    """One request for patches; ``sites``, ``addresses`` and ``words`` (the kernel's, unpatched) go together.

    ``built_for`` is the kernel and CPU that ``objects`` were compiled for; elsewhere ``sources`` are compiled
    again. Both are by number and name, ``00/probe.c``. ``origin`` is the file that it all came from. The rest
    is as in `kgdbpatch.patch.request.PatchRequest`; of `Override` the ``value``, ``times`` (0: always) and
    ``every``.
    """

    kind: str
    sites: tuple[str, ...]
    addresses: tuple[int, ...]
    words: tuple[int, ...]
    built_for: str
    origin: str = ""
    assembler: str = ""
    call: str = ""
    entry: str = ""
    writes: str = ""
    via: str = "auto"
    compiler: str = ""
    kbuild: str = ""
    include: tuple[str, ...] = ()
    define: tuple[str, ...] = ()
    count: bool = False
    force: bool = False
    replace: bool = False
    exit: bool = False
    value: int = 0
    times: int = 0
    every: int = 1
    sources: Mapping[str, bytes] = field(default_factory=dict)
    objects: Mapping[str, bytes] = field(default_factory=dict)

    def packed(self) -> bytes:
        """Return the bytes of the file."""
        values = asdict(self)
        members = {f"sources/{name}": data for name, data in values.pop("sources").items()}
        members |= {f"objects/{name}": data for name, data in values.pop("objects").items()}
        if text := values.pop("assembler"):
            members["payload.s"] = text.encode("utf-8", "surrogateescape")
        lines = [f"format = {_FORMAT}", *(f"{key} = {_value(value)}" for key, value in values.items())]
        return zipped({_MANIFEST: "\n".join([*lines, ""]).encode("utf-8", "replace"), **members})

    @classmethod
    def parse(cls, raw: bytes, path: Path) -> PatchFile:
        """Read it strictly; raise `BadPatch`."""
        members = unzipped(raw, path, "no file of patches", _MOST, _odd)
        about = f"{path}: {_MANIFEST}"
        try:
            given = tomllib.loads(members.pop(_MANIFEST).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadPatch(f"{about}: {error}") from error
        if given.pop("format", None) != _FORMAT:
            raise BadPatch(f"{about}: another format than {_FORMAT}, which this program reads")
        text = members.pop("payload.s", b"").decode("utf-8", "surrogateescape")
        parts: dict[str, Any] = {"sources": {}, "objects": {}}
        for name, data in members.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = data
        found = cls(**_checked(given, about), assembler=text, **parts)
        if found.kind not in _KINDS:
            raise BadPatch(f"{about}: '{found.kind:.40}' is no kind of patch")
        if not len(found.sites) == len(found.addresses) == len(found.words) or not found.sites:
            raise BadPatch(f"{about}: sites, addresses and words are not as many")
        return found


def _odd(names: list[str]) -> str | None:
    if _MANIFEST not in names:
        return f"no {_MANIFEST} in it"
    odd = next((name for name in names if not _MEMBER.fullmatch(name)), None)
    return None if odd is None else f"a file of patches has no member {odd[:80]!r}"


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)  # lists, too, are TOML's
    return text.replace("\x7f", "\\u007f")


def _checked(given: dict[str, Any], about: str) -> dict[str, Any]:
    """Return the fields of a `PatchFile` in a table, each of its type."""
    hints, values = get_type_hints(PatchFile), dict[str, Any]()
    known = {one.name for one in fields(PatchFile)} - {"sources", "objects", "assembler"}
    for name, value in given.items():
        if name not in known:
            raise BadPatch(f"{about}: {name:.60} is not known")
        kind = hints[name]
        if kind in (str, int, bool):
            right = type(value) is kind
        else:
            item = int if name in ("addresses", "words") else str
            right = isinstance(value, list) and all(type(one) is item for one in value)
            value = tuple(value) if right else value
        if not right:
            raise BadPatch(f"{about}: {name} is of another type")
        values[name] = value
    lost = next(
        (one for one in ("kind", "sites", "addresses", "words", "built_for") if one not in values), None
    )
    if lost is not None:
        raise BadPatch(f"{about}: {lost} is missing")
    words = (*values["addresses"], *values["words"])
    if any(not 0 <= word < 1 << 32 for word in words):
        raise BadPatch(f"{about}: an address or a word has more than 32 bits")
    return values
