"""The rows that a source patch adds to the tables of init and exit calls (kgdbpatch.toolchain.init_calls)."""

from __future__ import annotations

from collections.abc import Iterator

from kgdbpatch.updates.decisions import CALLED_FIRST, is_call_table, is_init
from kgdbpatch.updates.object_diff import Difference
from kgdbpatch.updates.pieces import Piece, Pieces, Reference, Within

__all__ = ["init_rows", "is_init_table"]

_WORD = 1  # R_PPC_ADDR32


def is_init_table(name: str) -> bool:
    """Tell whether a section lists what is to be called first."""
    return CALLED_FIRST.fullmatch(name) is not None


def _rows(pieces: Pieces) -> Iterator[tuple[Piece, Reference]]:
    for piece in pieces.all:
        if is_call_table(piece.section.name):
            yield from ((piece, use) for use in piece.references if use.kind == _WORD)


def init_rows(difference: Difference) -> Iterator[tuple[Piece, Reference]]:
    """Yield the new rows: the table, and what refers to the function.

    A function of the kernel's own start-up code is left out: the kernel has it no more.
    """
    known = {use.target.piece for _, use in _rows(difference.before) if isinstance(use.target, Within)}
    for table, use in _rows(difference.after):
        if not isinstance(use.target, Within):
            continue
        old = difference.pairs.get(use.target.piece)
        if old in known or (old is not None and is_init(difference.before.all[old])):
            continue
        yield table, use
