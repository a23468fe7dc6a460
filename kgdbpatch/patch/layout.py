"""Lay out what a patch takes in memory: its words, the payload's linked code, a note, a list of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kgdbpatch.patch.entrance import Entrance
from kgdbpatch.patch.once import AREA
from kgdbpatch.patch.payload import Payload
from kgdbpatch.patch.planned import Plan, board_code, code_of
from kgdbpatch.patch.site import Site
from kgdbpatch.variables.note import framed

__all__ = ["Layout", "planned"]

_ALIGNED = 16  # bytes


class Layout(NamedTuple):
    """Where the parts of a body are, addresses guest virtual; its words come first, if any.

    ``constant`` is how many of its leading bytes never change. The ``note``, if any, stands right before
    ``area``, where a ``guarded`` one keeps which threads are inside (patch/once.py).
    """

    body: int
    blob_at: int
    blob: bytes
    constant: int
    note: bytes
    area: int
    guarded: bool

    @classmethod
    def of(cls, body: int, words: int, payload: Payload, *, guarded: bool = False) -> Layout:
        """Return the layout of a patch at ``body`` of so many words: as many wherever the rest will be."""
        front, blob, constant = 0, b"", 4 * words
        if payload.blob is not None:
            front = _aligned(4 * words)
            blob, blob_constant = payload.blob(body + front)
            constant = front + blob_constant
        size = front + len(blob) if payload.blob is not None else 4 * words
        note = framed(payload.note(body + front), front) if payload.note is not None else b""
        return cls(body, body + front, blob, constant, note, body + _aligned(size) + len(note), guarded)

    def code(self, words: Sequence[int]) -> bytes:
        """Return the whole body, with those ``words`` first."""
        code = code_of(words).ljust(self.blob_at - self.body, b"\0") + self.blob
        if self.note:
            code = code.ljust(_aligned(len(code)), b"\0") + self.note
        if self.guarded:
            code = code.ljust(self.area - self.body, b"\0") + bytes(AREA)
        return code


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def planned(
    site: Site,
    payload: Payload,
    way: Entrance,
    layout: Layout,
    code: bytes,
    *,
    words: int,
    tail: int,
    forced: Sequence[str],
    saved: Sequence[str] = (),
    guard: tuple[int, int] = (0, 0),
    counted: bool = False,
    replaces: bool = False,
) -> Plan:
    """Return the plan of a body of ``code`` that is laid out like that and entered by ``way``.

    ``words`` are its own, without the linked code, ``tail`` those before the displaced instruction.
    """
    return Plan(
        site=site.address,
        original=site.word,
        splice=way.splice,
        body=layout.body,
        code=code,
        constant_size=layout.constant,
        body_words=words,
        saved=tuple(dict.fromkeys((*way.saved, *saved))),
        springboard=way.springboard,
        springboard_code=board_code(way.words),
        guard=guard,
        counted=counted,
        tail=tail,
        onward=tail if site.under is not None else 0,
        forced=tuple(forced),
        warnings=payload.warnings,
        replaces=replaces,
        guarded=layout.guarded,
        uses=payload.uses,
        hands_out=payload.hands_out,
        first=payload.first(layout.blob_at) if payload.first else None,
        noted=bool(layout.note),
    )
