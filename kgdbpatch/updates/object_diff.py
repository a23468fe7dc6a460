"""Compare two objects of one source: which functions and data are changed, new or gone.

Compiler's numbers in names, moved constants and the numbers of lines are no changes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from kgdbpatch.updates.pieces import Kind, Outside, Piece, Pieces, Reference, Within, base_name

__all__ = ["Difference", "compare"]

_PART = re.compile(r"\.cold(\.\d+)?$")  # of another function, entered by branches alone
_LI = 14  # addi rD,0,value: the opcode
_NAMED = (Kind.FUNCTION, Kind.DATA)


@dataclass
class Difference:
    """What differs between the objects ``before`` and ``after``; pieces stand by their numbers.

    ``pairs`` is by piece of ``after`` its counterpart of ``before``.
    """

    before: Pieces
    after: Pieces
    pairs: dict[int, int]
    changed: list[int] = field(default_factory=list)  # of after
    new: list[int] = field(default_factory=list)  # of after
    gone: list[int] = field(default_factory=list)  # of before
    lines_only: list[int] = field(default_factory=list)  # of after: nothing but numbers of lines differs

    def counterpart(self, piece: Piece) -> Piece | None:
        """Return the piece of ``before`` that a piece of ``after`` was."""
        number = self.pairs.get(piece.number)
        return None if number is None else self.before.all[number]

    def of(self, numbers: list[int], kind: Kind) -> list[Piece]:
        """Return those of the numbered pieces of ``after`` that are of a kind."""
        return [self.after.all[number] for number in numbers if self.after.all[number].kind is kind]


def compare(
    before: Pieces, after: Pieces, line_with: Callable[[int], int | None] = lambda line: line
) -> Difference:
    """Compare two objects; ``line_with`` says where a line of the source stands in the patched one."""
    found = Difference(before, after, _pairs(before, after))
    taken = set(found.pairs.values())
    contents = _Contents(before, None), _Contents(after, found.pairs)
    for piece in after.all:
        if piece.kind not in _NAMED:
            continue
        old = found.counterpart(piece)
        if old is None:
            found.new.append(piece.number)
        elif contents[0].of(old) != contents[1].of(piece):
            lines = _lines_differ(old, piece, contents, line_with)
            (found.lines_only if lines else found.changed).append(piece.number)
    found.gone = [piece.number for piece in before.all if piece.kind in _NAMED and piece.number not in taken]
    _follow_parts(found)
    return found


# ---- which is which -----------------------------------------------------------------------------------


def _pairs(before: Pieces, after: Pieces) -> dict[int, int]:
    pairs: dict[int, int] = {}
    plain = {(p.name, p.kind): p for p in before.all if p.kind in _NAMED and base_name(p.name) == p.name}
    groups: tuple[dict[tuple[str, Kind], list[Piece]], ...] = (defaultdict(list), defaultdict(list))
    for group, pieces in zip(groups, (before, after), strict=True):
        for piece in pieces.all:
            if piece.kind in _NAMED and base_name(piece.name) != piece.name:
                group[base_name(piece.name), piece.kind].append(piece)
    for piece in after.all:
        if piece.kind in _NAMED and (old := plain.get((piece.name, piece.kind))):
            pairs[piece.number] = old.number
    for key, news in groups[1].items():
        _pair_numbered(groups[0].get(key, []), news, (before, after), pairs)
    return pairs


def _pair_numbered(
    olds: list[Piece], news: list[Piece], objects: tuple[Pieces, Pieces], pairs: dict[int, int]
) -> None:
    """Pair the pieces of one name less numbers: by users and content, by users, by content, in order."""

    def users(side: int, piece: Piece) -> frozenset[str]:
        pieces = objects[side]
        return frozenset(base_name(pieces.all[n].name) for n in pieces.users.get(piece.number, ()))

    olds, news = (sorted(group, key=_order) for group in (olds, news))
    keys: list[Callable[[int, Piece], object]] = [
        lambda side, p: (users(side, p), p.data, p.size),
        lambda side, p: users(side, p) or None,
    ]
    if len(olds) == len(news) or all(p.kind is Kind.FUNCTION for p in news):
        keys.append(lambda side, p: (p.data, p.size))
        keys.append(lambda side, p: 0)
    for key in keys:
        waiting: dict[object, list[Piece]] = defaultdict(list)
        for old in olds:
            waiting[key(0, old)].append(old)
        for new in list(news):
            value = key(1, new)
            if value is not None and waiting[value]:
                old = waiting[value].pop(0)
                pairs[new.number] = old.number
                olds.remove(old)
                news.remove(new)


def _order(piece: Piece) -> tuple[int, ...]:
    return tuple(int(part) for part in piece.name.split(".")[1:] if part.isdigit())


# ---- what is in it ------------------------------------------------------------------------------------


class _Contents:
    """What pieces of an object hold, told so that it can be compared with another object's."""

    def __init__(self, pieces: Pieces, pairs: dict[int, int] | None) -> None:
        self._pieces, self._pairs = pieces, pairs
        self._known: dict[int, object] = {}

    def of(self, piece: Piece) -> object:
        if piece.number not in self._known:
            self._known[piece.number] = piece.section.name  # a table that refers to itself
            self._known[piece.number] = (piece.size, piece.writable, piece.data, self.references(piece))
        return self._known[piece.number]

    def references(self, piece: Piece) -> list[object]:
        return [(one.offset, one.kind, self._target(piece, one)) for one in piece.references]

    def _target(self, piece: Piece, reference: Reference) -> object:
        target = reference.target
        if not isinstance(target, Within):
            return target if isinstance(target, Outside) else ("constant", target)
        if target.piece == piece.number:
            return ("itself", target.addend)
        other = self._pieces.all[target.piece]
        if other.kind is Kind.NAMELESS:
            inner = [(one.offset, one.kind, self._name(one.target)) for one in other.references]
            return ("nameless", target.addend, other.data, tuple(inner))
        return self._name(target)

    def _name(self, target: Outside | Within | bytes) -> object:
        if not isinstance(target, Within):
            return target
        if self._pairs is None:
            return ("before", target.piece, target.addend)
        if target.piece in self._pairs:
            return ("before", self._pairs[target.piece], target.addend)
        other = self._pieces.all[target.piece]
        if other.kind in _NAMED:
            return ("after", target.piece, target.addend)
        return (other.name, target.addend)


def _lines_differ(
    old: Piece, new: Piece, contents: tuple[_Contents, _Contents], line_with: Callable[[int], int | None]
) -> bool:
    """Tell whether two functions differ in nothing but numbers of lines that their code loads."""
    if old.kind is not Kind.FUNCTION or old.size != new.size:
        return False
    if contents[0].references(old) != contents[1].references(new):
        return False
    for at in range(0, old.size, 4):
        was, now = (int.from_bytes(piece.data[at : at + 4], "big") for piece in (old, new))
        if was == now:
            continue
        if (
            was >> 16 != now >> 16
            or was >> 26 != _LI
            or was >> 16 & 31
            or line_with(was & 0xFFFF) != now & 0xFFFF
        ):
            return False
    return True


def _follow_parts(found: Difference) -> None:
    """Where a part of a function that stands apart is changed or new, the function is changed."""
    for number in [*found.changed, *found.new]:
        piece = found.after.all[number]
        if piece.kind is Kind.FUNCTION and _PART.search(piece.name):
            whole = found.after.by_name.get(_PART.sub("", piece.name))
            if whole and whole.number in found.pairs and whole.number not in found.changed:
                found.changed.append(whole.number)
    found.changed.sort()
