"""The note that stands behind a patch's body: where which name of its payload lies, and what it uses."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from kgdbpatch.errors import ComponentDamaged
from kgdbpatch.variables.shape import Shape, from_rows, rows_of

__all__ = ["FRAME", "Note", "Stage", "Symbol", "Variable", "framed", "pack", "unframed", "unpack"]

_FRAME = struct.Struct(">IIII")  # where the payload's bytes begin, the note's length and CRC-32, magic
FRAME = _FRAME.size  # bytes, the last ones of what `framed` returns
_MAGIC = int.from_bytes(b"note", "big")
_ALIGNMENT = 16
_MOST = 1 << 22  # bytes of a note, unpacked


class Stage(IntEnum):
    """How far a payload is that has init or exit calls; it is kept in a word of the payload's own."""

    NEW = 0  # its init calls have not all returned
    BEGUN = 1
    ENDED = 2  # its exit calls were called, or are not to be


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a payload, ``offset`` bytes behind the payload's begin; None: the compiler dropped it.

    ``scope`` is the function that a static one is in, or the source file of one that is not exported.
    """

    name: str
    scope: str
    offset: int | None
    shape: Shape
    exported: bool
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function of a payload, ``offset`` bytes behind the payload's begin."""

    name: str
    offset: int
    exported: bool


@dataclass(frozen=True, slots=True)
class Note:
    """What a payload says of itself: its source file, when it was put in (seconds since 1970), its names.

    ``uses`` are the ids of the patches whose functions or variables it was linked against. ``last`` are the
    functions that are called when nobody is in it any more, ``stage`` is the word that tells of it (`Stage`);
    both in bytes behind the payload's begin. ``holds`` are the modules that it keeps loaded: name, address of
    the structure.
    """

    source: str
    time: int
    variables: tuple[Variable, ...] = ()
    functions: tuple[Symbol, ...] = ()
    uses: tuple[int, ...] = ()
    stage: int | None = None
    last: tuple[int, ...] = ()
    holds: tuple[tuple[str, int], ...] = ()


def pack(note: Note) -> bytes:
    """Return a note in few bytes."""
    rows, numbers = rows_of(one.shape for one in note.variables)
    variables = [
        [one.name, one.scope, one.offset, number, one.exported, one.constant]
        for one, number in zip(note.variables, numbers, strict=True)
    ]
    functions = [[one.name, one.offset, one.exported] for one in note.functions]
    told = [note.source, note.time, rows, variables, functions, note.uses]
    if note.stage is not None:
        told += [note.stage, note.last, note.holds]
    return zlib.compress(json.dumps(told, separators=(",", ":")).encode(), 9)


def unpack(packed: bytes) -> Note:
    """Return the note that `pack` packed; raise `ComponentDamaged` for anything else."""
    try:
        told = zlib.decompressobj().decompress(packed, _MOST)
        source, time, rows, variables, functions, uses, *rest = json.loads(told)
        stage, last, holds = rest or (None, (), ())
        shapes = from_rows(rows)
        return Note(
            source,
            time,
            tuple(
                Variable(name, scope, offset, shapes[number], exported, constant)
                for name, scope, offset, number, exported, constant in variables
            ),
            tuple(Symbol(*one) for one in functions),
            tuple(uses),
            stage,
            tuple(last),
            tuple((str(name), int(handle)) for name, handle in holds),
        )
    except (zlib.error, ValueError, LookupError, TypeError) as error:
        raise ComponentDamaged("what a patch keeps of its names was overwritten") from error


def framed(packed: bytes, payload: int) -> bytes:
    """Return a note as it stands in memory at a multiple of 16, ``payload`` bytes behind the body's begin."""
    padding = bytes(-(len(packed) + FRAME) % _ALIGNMENT)
    return padding + packed + _FRAME.pack(payload, len(packed), zlib.crc32(packed), _MAGIC)


def unframed(memory: bytes) -> tuple[int, bytes]:
    """Return where the payload's bytes begin, and the note, of bytes that end where `framed` ended.

    Raises `ComponentDamaged`.
    """
    if len(memory) >= FRAME:
        payload, length, crc, magic = _FRAME.unpack(memory[-FRAME:])
        packed = memory[-FRAME - length : -FRAME] if length else b""
        if magic == _MAGIC and len(packed) == length and zlib.crc32(packed) == crc:
            return payload, packed
    raise ComponentDamaged("what a patch keeps of its names was overwritten")
