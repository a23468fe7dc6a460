"""What an update says of itself: the manifest of a .kup file, to and from TOML."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any, get_type_hints

from kgdbpatch.errors import BadPatch

__all__ = [
    "FORMAT",
    "Callbacks",
    "Data",
    "Decision",
    "Function",
    "MadeFor",
    "Manifest",
    "Member",
    "Reference",
    "Shadow",
]

FORMAT = 1
_MOST_ROWS = 100_000
_MOST_SHADOW = 16 << 20  # bytes
_DIGITS = frozenset("0123456789abcdef")
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,100}")


@dataclass(frozen=True)
class MadeFor:
    """The kernel that an update is for: its release (`uname -r`) and its build id, "" where unknown."""

    release: str
    build_id: str


@dataclass(frozen=True)
class Function:
    """A function of the kernel that is replaced by ``symbol`` of the object.

    ``size`` is the original's in bytes; ``checksum`` SHA-256 of its words with all that the linker fills in
    as 0; ``relocated`` tells these words, as a number in hexadecimal: bit 0 is the first word.
    """

    name: str
    file: str
    module: str
    local: bool
    kind: str
    symbol: str
    size: int
    checksum: str
    relocated: str


@dataclass(frozen=True)
class Data:
    """Data: ``new`` of the update's own, or words that are to be written over the kernel's (``write``).

    For the latter ``symbol`` of the object holds the new content, ``offsets`` say which words of it differ.
    """

    name: str
    file: str
    module: str
    local: bool
    kind: str
    symbol: str
    size: int
    offsets: tuple[int, ...]
    before: str  # the old words in hexadecimal, with what is relocated as 0
    decision: str  # the one that a person has to take before, or ""


@dataclass(frozen=True)
class Reference:
    """An undefined symbol of the object that is not the kernel's global one of that name.

    It is ``name`` in what the kernel made of the source ``file``.
    """

    symbol: str
    name: str
    file: str
    module: str
    local: bool


@dataclass(frozen=True)
class Decision:
    """What a person has to decide before an update may be applied."""

    id: str
    kind: str
    text: str
    decided: bool = False


@dataclass(frozen=True)
class Callbacks:
    """Functions of the object that are called around apply and remove, "" for none.

    `update build` takes those that the source calls so: ``kgp_pre_apply``, ``kgp_transform``,
    ``kgp_post_apply``, ``kgp_pre_remove``, ``kgp_revert``, ``kgp_post_remove``.

    Those before (``pre_``) and after run in a process's context and may sleep; what ``pre_apply`` and
    ``pre_remove`` return, when it is not 0, is a veto. ``transform`` runs while all else stands still, before
    the new code is reachable, ``revert`` before the old one is again; both may say no, and may not wait.
    """

    pre_apply: str = ""
    post_apply: str = ""
    pre_remove: str = ""
    post_remove: str = ""
    transform: str = ""
    revert: str = ""


@dataclass(frozen=True)
class Shadow:
    """Room for shadow data: of how many objects, and in how many bytes."""

    objects: int = 4096
    bytes: int = 65536


@dataclass(frozen=True)
class Member:
    """An object in the file."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that an update says of itself."""

    name: str
    description: str
    made_for: MadeFor
    function: tuple[Function, ...] = ()
    data: tuple[Data, ...] = ()
    reference: tuple[Reference, ...] = ()
    decision: tuple[Decision, ...] = ()
    object: tuple[Member, ...] = ()
    callbacks: Callbacks = field(default_factory=Callbacks)
    shadow: Shadow = field(default_factory=Shadow)
    quiet: tuple[str, ...] = ()  # functions that nobody may be in, besides those that are replaced
    supersedes: tuple[str, ...] = ()  # names of updates that go when this one comes, "*" for all
    consistency: str = "whole"  # nobody is inside when it comes; "call": each call gets one version, whole
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    def to_toml(self) -> str:
        """Return the text of update.toml."""
        values = asdict(self)
        plain = {"format": values.pop("format"), "name": values.pop("name")}
        plain |= {
            name: values.pop(name) for name in ("description", "consistency", "notes", "quiet", "supersedes")
        }
        lines = list(_pairs(plain))
        for key, value in values.items():
            tables = value if isinstance(value, tuple) else [value]
            head = f"[[{key}]]" if isinstance(value, tuple) else f"[{key}]"
            for table in tables:
                lines += ["", head, *_pairs(table)]
        return "\n".join([*lines, ""])

    @classmethod
    def from_toml(cls, text: str, about: str) -> Manifest:
        """Read update.toml strictly; `BadPatch` says what is wrong in one line."""
        try:
            given = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise BadPatch(f"{about}: {str(error) or 'nested too deep'}") from error
        if (version := given.get("format")) != FORMAT or isinstance(version, bool):
            raise BadPatch(f"{about}: format is {version!r:.40}, this program reads {FORMAT}")
        found = _made(cls, given, about, "")
        assert isinstance(found, cls)
        _check(found, about)
        return found


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, tuple):
            yield f"{key} = [{', '.join(map(_value, value))}]"
        else:
            yield f"{key} = {_value(value)}"


def _value(value: str | int | bool) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode().replace("\x7f", "\\u007f")


_ROWS: dict[str, type] = {
    "function": Function,
    "data": Data,
    "reference": Reference,
    "decision": Decision,
    "object": Member,
}
_TABLES: dict[str, type] = {"made_for": MadeFor, "callbacks": Callbacks, "shadow": Shadow}
_LISTS: dict[str, type] = {"notes": str, "quiet": str, "supersedes": str, "offsets": int}


def _made(kind: type, given: object, about: str, where: str) -> Any:
    """Return a dataclass made of a table, all of whose keys and types are right."""
    if not isinstance(given, dict):
        raise BadPatch(f"{about}: {where} is no table")
    names = [one.name for one in fields(kind)]
    at = f"{where}." if where else ""
    if unknown := [key for key in given if key not in names]:
        raise BadPatch(f"{about}: {at}{unknown[0]:.60} is not known")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name in names:
        optional = name in (
            "decided",
            *_ROWS,
            "notes",
            "quiet",
            "supersedes",
            "consistency",
            "callbacks",
            "shadow",
        ) or kind in (Callbacks, Shadow)
        if name not in given:
            if optional:
                continue
            raise BadPatch(f"{about}: {at}{name} is missing")
        value = given[name]
        if kind is Manifest and name in _ROWS:
            values[name] = tuple(_made(_ROWS[name], row, about, name) for row in _list(value, about, name))
        elif kind is Manifest and name in _TABLES:
            values[name] = _made(_TABLES[name], value, about, name)
        elif name in _LISTS:
            rows = _list(value, about, f"{at}{name}")
            values[name] = tuple(_plain(row, _LISTS[name], about, f"{at}{name}") for row in rows)
        else:
            values[name] = _plain(value, hints.get(name, NoneType), about, f"{at}{name}")
    return kind(**values)


def _list(value: object, about: str, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_ROWS:
        raise BadPatch(f"{about}: {where} is no list, or too long a one")
    return value


def _plain(value: object, kind: type, about: str, where: str) -> object:
    if type(value) is not kind:
        raise BadPatch(f"{about}: {where} is not of type {kind.__name__}")
    if isinstance(value, int) and not 0 <= value < 1 << 32:
        raise BadPatch(f"{about}: {where} is out of range")
    return value


def _check(manifest: Manifest, about: str) -> None:
    """Check what types do not tell."""
    if not _NAME.fullmatch(manifest.name):
        raise BadPatch(f"{about}: name is {manifest.name!r:.60}: up to 100 letters, digits, . _ + -")
    if manifest.consistency not in ("whole", "call"):
        raise BadPatch(f"{about}: consistency is {manifest.consistency!r:.40}, 'whole' and 'call' are known")
    if not (0 < manifest.shadow.objects <= 1 << 20 and 0 < manifest.shadow.bytes <= _MOST_SHADOW):
        raise BadPatch(f"{about}: shadow is out of range")
    for function in manifest.function:
        if function.kind != "replace":
            raise BadPatch(f"{about}: function.kind is {function.kind!r:.40}, only 'replace' is known")
        _hexadecimal(function.checksum, 64, f"{about}: function.checksum")
        _hexadecimal(function.relocated, None, f"{about}: function.relocated")
        if function.size % 4 or not function.size or int(function.relocated, 16) >> (function.size // 4):
            raise BadPatch(f"{about}: function.size or function.relocated of {function.name:.60} is wrong")
    for data in manifest.data:
        if data.kind not in ("new", "write"):
            raise BadPatch(f"{about}: data.kind is {data.kind!r:.40}, 'new' and 'write' are known")
        if any(offset % 4 or offset + 4 > data.size for offset in data.offsets):
            raise BadPatch(f"{about}: data.offsets of {data.name:.60} are not words of it")
        if len(data.before) != 8 * len(data.offsets) or set(data.before) - _DIGITS:
            raise BadPatch(f"{about}: data.before of {data.name:.60} is not a word for each offset")
    for member in manifest.object:
        _hexadecimal(member.sha256, 64, f"{about}: object.sha256")
    ids = [decision.id for decision in manifest.decision]
    if len(set(ids)) != len(ids):
        raise BadPatch(f"{about}: two decisions have one id")
    if lost := {data.decision for data in manifest.data} - {"", *ids}:
        raise BadPatch(f"{about}: no decision {min(lost):.60}")


def _hexadecimal(text: str, length: int | None, where: str) -> None:
    if not text or set(text) - _DIGITS or (length is not None and len(text) != length):
        raise BadPatch(f"{where} is no number in hexadecimal" + (f" of {length} digits" if length else ""))
