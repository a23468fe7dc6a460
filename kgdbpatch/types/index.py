"""Find in one pass over DWARF where each named type and function is defined: at the top of its unit."""

from __future__ import annotations

from kgdbpatch.types.abbreviations import AT, FORM, TAG, Abbreviation, uleb
from kgdbpatch.types.entries import Entries, Unit

__all__ = ["KINDS", "Index", "build_index"]

KINDS = {
    TAG["structure_type"]: "struct",
    TAG["class_type"]: "struct",
    TAG["union_type"]: "union",
    TAG["enumeration_type"]: "enum",
    TAG["typedef"]: "typedef",
    TAG["base_type"]: "base",
    TAG["subprogram"]: "function",
}
Index = dict[str, dict[str, int]]  # by kind and name: where the entry is
_NAME, _SIBLING, _DECLARATION = AT["name"], AT["sibling"], AT["declaration"]
_STRP, _STRING, _REF4 = FORM["strp"], FORM["string"], FORM["ref4"]
_SIMPLE = {_STRP, _STRING}

# how to pass over an entry, and what to take of it: a kind (None: nothing), whether it is a mere declaration,
# where its name's place in .debug_str stands, bytes of it all, where its sibling's place stands (-1: neither)
_Plan = tuple[str | None, bool, int, int, int]


def _plan(abbreviation: Abbreviation) -> _Plan | None:
    """Return how to pass over entries of an abbreviation quickly; None where they must be read."""
    places = abbreviation.places
    kind = KINDS.get(abbreviation.tag)
    named = any(name == _NAME for name, _, _ in abbreviation.attributes)
    if not named:
        kind = None
    at, form = places.get(_NAME, (-1, 0))
    if kind is not None and form != _STRP:
        return None
    sibling, reference = places.get(_SIBLING, (-1, 0))
    if abbreviation.children:
        if reference != _REF4:
            return None
    elif abbreviation.size < 0:
        return None
    else:
        sibling = -1
    declared = any(name == _DECLARATION for name, _, _ in abbreviation.attributes)
    return kind, declared, at, abbreviation.size, sibling


def build_index(entries: Entries) -> Index:
    """Return where what has a name is; the first definition of each, else the first declaration."""
    defined: dict[str, dict[bytes, int]] = {kind: {} for kind in KINDS.values()}
    declared: dict[str, dict[bytes, int]] = {kind: {} for kind in KINDS.values()}
    plans: dict[int, dict[int, _Plan | None]] = {}
    texts: Index = {kind: {} for kind in KINDS.values()}
    forward: Index = {kind: {} for kind in KINDS.values()}
    for unit in entries.units:
        table = entries.abbreviations(unit)
        key = id(table)
        if key not in plans:
            plans[key] = {code: _plan(one) for code, one in table.items()}
        _scan(entries, unit, plans[key], (defined, declared), (texts, forward))
    strings = entries.strings
    for found, into in ((defined, texts), (declared, forward)):
        for kind, by_place in found.items():
            for place, entry in by_place.items():
                at = int.from_bytes(place, entries.order)  # type: ignore[arg-type]
                name = strings[at : strings.index(b"\0", at)].decode("utf-8", "replace")
                into[kind].setdefault(name, entry)
    return {kind: {**forward[kind], **texts[kind]} for kind in texts}


def _scan(
    entries: Entries,
    unit: Unit,
    plans: dict[int, _Plan | None],
    quick: tuple[dict[str, dict[bytes, int]], dict[str, dict[bytes, int]]],
    slow: tuple[Index, Index],
) -> None:
    """Take down what has a name at the top of a unit: by its name's place in ``quick``, or in ``slow``."""
    data, start, end, order = entries.data, unit.start, unit.end, entries.order
    defined, declared = quick
    top = entries.at(unit.first)
    at = top.end if top.children else end
    while at < end:
        place, code = at, data[at]
        at += 1
        if code >= 0x80:
            code, at = uleb(data, place)
        if code == 0:
            return
        plan = plans[code]
        if plan is None:
            at = _note(entries, unit, place, slow)
            continue
        kind, forward, name, size, sibling = plan
        if kind is not None:
            found = declared[kind] if forward else defined[kind]
            text = data[at + name : at + name + 4]
            if text not in found:
                found[text] = place
        if sibling < 0:
            at += size
        else:
            behind = start + int.from_bytes(data[at + sibling : at + sibling + 4], order)  # type: ignore[arg-type]
            if behind <= at:
                raise ValueError("an entry's sibling lies before it")
            at = behind


def _note(entries: Entries, unit: Unit, place: int, slow: tuple[Index, Index]) -> int:
    """Take down an entry that must be read; return the place behind it."""
    entry = entries.at(place)
    kind, name = KINDS.get(entry.tag), entry.name
    if kind is not None and name is not None:
        slow[entry.number("declaration")][kind].setdefault(name, place)
    return entries.behind(unit, entry)
