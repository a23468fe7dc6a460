"""Read what a trace program has gathered: events of the rings, elements of the maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kgdbpatch.tracing.plan import WORDS_OF, Event, MapPlan
from kgdbpatch.tracing.stacks import frames_of

__all__ = ["Element", "entry_type", "map_size", "merged", "read_event", "read_map"]

_USED = 1
_SMALL = 0xFFFF_F001  # from here on a word is a small negative number: an error

Key = tuple[object, ...]
Name = Callable[[str, tuple[int, ...]], object]  # (kind, words) ─► what is there, or the stack's names


@dataclass
class Element:
    """An element of a map: how many values, their sum or the only one, buckets of a histogram."""

    n: int = 0
    value: int = 0
    buckets: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def entry_type(plan: MapPlan) -> np.dtype[np.void]:
    """Return how an element lies in memory, as the compiler lays it out."""
    fields: list[tuple[str, str, int]] = [("used", ">u4", 1)]
    if plan.keys:
        fields.append(("key", ">u4", plan.key_words))
    wide = plan.kind in ("sum", "avg", "min", "max", "value")
    if wide:
        fields.append(("value", ">i8", 1))
    if plan.kind in ("hist", "lhist"):
        fields.append(("buckets", ">u4", plan.buckets))
    elif plan.kind != "value":
        fields.append(("n", ">u4", 1))
    names, formats, offsets, at = [], [], [], 0
    for name, form, count in fields:
        size = int(form[-1])
        at = -(-at // size) * size
        names.append(name)
        formats.append((form, (count,)) if name in ("key", "buckets") else form)
        offsets.append(at)
        at += size * count
    size = -(-at // plan.alignment) * plan.alignment
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def map_size(plan: MapPlan) -> tuple[int, int]:
    """Return the bytes that a map's elements take, and all of it: a word tells what had no room."""
    entries = plan.slots * entry_type(plan).itemsize
    return entries, entries + max(plan.alignment, 4)


def read_map(plan: MapPlan, memory: bytes, name: Name) -> tuple[dict[Key, Element], int]:
    """Return the elements of one CPU's map by their keys, and how many values had no room."""
    end, _ = map_size(plan)
    lost = int.from_bytes(memory[end : end + 4], "big")
    raw = np.frombuffer(memory[:end], entry_type(plan))
    rows: list[dict[Key, Element]] = []
    for row in raw[raw["used"] == _USED]:
        key = _values(plan.keys, [None] * len(plan.keys), row["key"].tolist(), name) if plan.keys else ()
        element = Element()
        if "buckets" in row.dtype.names:
            element.buckets = row["buckets"].astype(np.int64)
            element.n = int(element.buckets.sum())
        elif "n" in row.dtype.names:
            element.n = int(row["n"])
        if "value" in row.dtype.names:
            element.value = int(row["value"])
        rows.append({key: element})
    return merged(plan, rows), lost


def merged(plan: MapPlan, parts: Sequence[dict[Key, Element]]) -> dict[Key, Element]:
    """Return the elements of all CPUs together."""
    total: dict[Key, Element] = {}
    for part in parts:
        for key, one in part.items():
            known = total.get(key)
            if known is None:
                total[key] = one
                continue
            if plan.kind == "min":
                known.value = min(known.value, one.value)
            elif plan.kind == "max":
                known.value = max(known.value, one.value)
            else:
                known.value += one.value
            known.n += one.n
            if len(one.buckets):
                known.buckets = known.buckets + one.buckets
    return total


def read_event(event: Event, words: Sequence[int], name: Name) -> Key:
    """Return the values of an event."""
    kinds = [one.kind for one in event.arguments]
    return _values(kinds, [one.signed for one in event.arguments], words, name)


def _values(kinds: Sequence[str], signed: Sequence[bool | None], words: Sequence[int], name: Name) -> Key:
    found: list[object] = []
    at = 0
    for kind, sign in zip(kinds, signed, strict=True):
        part = words[at : at + WORDS_OF[kind]]
        at += WORDS_OF[kind]
        if kind in ("name", "text"):
            data = b"".join(word.to_bytes(4, "big") for word in part)
            found.append(data.split(b"\0")[0].decode(errors="replace"))
        elif kind in ("address", "function") or frames_of(kind):
            found.append(name(kind, tuple(part)))
        elif kind == "wide":
            value = part[0] << 32 | part[1]
            found.append(value if sign is False else value - (value >> 63 << 64))
        else:
            below = part[0] >= (1 << 31 if sign else _SMALL) and sign is not False
            found.append(part[0] - (below << 32))
    return tuple(found)
