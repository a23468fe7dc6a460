"""What a trace program gathers: its maps, its kinds of events, and where in memory each value is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kgdbpatch.errors import Misuse
from kgdbpatch.tracing.parse import wrong
from kgdbpatch.tracing.stacks import MOST
from kgdbpatch.tracing.syntax import Call, Expression, Map, Number, Unary

__all__ = ["ADDITIVE", "AGGREGATES", "Argument", "Event", "Gathered", "MapPlan", "conversions"]

AGGREGATES = ("count", "sum", "avg", "min", "max", "hist", "lhist")
ADDITIVE = ("count", "sum", "avg", "hist", "lhist")  # whose values may be subtracted: cleared without a stop
WORDS_OF = {
    "word": 1,
    "address": 1,
    "function": 1,
    "wide": 2,
    "name": 4,
    "text": 16,
    **{f"stack{frames}": frames for frames in range(1, MOST + 1)},
}  # of a key or an argument
_WAYS = 8
HIST = 66  # buckets: below zero, zero, one for each bit
_MOST_BUCKETS = 1024
_CONVERSION = re.compile(r"%([-0 +#]*)(\d*)(\.\d+)?(hh|h|ll|l|z)?([diuxXcsp%]|.|$)")


@dataclass(frozen=True)
class Argument:
    """A value of an event: what it is."""

    kind: str  # one of WORDS_OF
    signed: bool | None = None  # None: not known


@dataclass(frozen=True)
class Event:
    """What the guest tells: ``print`` of a format or of values, of a map, or that it is over."""

    kind: str  # printf, print, map, stop
    text: str = ""
    arguments: tuple[Argument, ...] = ()

    @property
    def words(self) -> int:
        """How many words it takes."""
        return sum(WORDS_OF[one.kind] for one in self.arguments)


@dataclass
class MapPlan:
    """A map: what its values are, and of what kinds its keys are."""

    name: str
    kind: str  # one of AGGREGATES, or value
    keys: tuple[str, ...]
    least: int = 0  # of a linear histogram
    most: int = 0
    step: int = 0
    slots: int = 1  # a power of two; a key has its place among `ways` of them

    @property
    def ways(self) -> int:
        """In how many slots a key may be."""
        return _WAYS if self.keys else 1

    @property
    def alignment(self) -> int:
        """What an element's address is a multiple of, in bytes; its size is one, too."""
        wide = self.kind in ("sum", "avg", "min", "max", "value")
        size = 4 + 4 * self.key_words + {"count": 4, "value": 8}.get(self.kind, 12)
        if self.kind in ("hist", "lhist") or size > 64:
            return 8 if wide else 4
        return 1 << (size + 4 * wide - 1).bit_length()

    @property
    def key_words(self) -> int:
        """How many words its keys take."""
        return sum(WORDS_OF[kind] for kind in self.keys)

    @property
    def buckets(self) -> int:
        """How many buckets a histogram has."""
        return HIST if self.kind == "hist" else (self.most - self.least) // self.step + 2

    @property
    def shared(self) -> bool:
        """Whether all CPUs have one: what a thread keeps it may ask for on another CPU."""
        return self.kind == "value"


@dataclass
class Gathered:
    """All maps and events of a program, as they are found; a map has room for so many ``entries``."""

    text: str
    entries: int
    stops: bool = False  # some probe ends the trace
    maps: dict[str, MapPlan] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def map(self, one: Map, kind: str, keys: tuple[str, ...], value: Call | None = None) -> MapPlan:
        """Return a map's plan, as all its uses have it; raise `Misuse` where they differ."""
        known = self.maps.get(one.name)
        if known is None:
            slots = _WAYS if keys else 1
            room = self.entries if kind not in ("hist", "lhist") else max(self.entries // 8, 1)
            while keys and slots < 2 * room:
                slots *= 2
            known = self.maps[one.name] = MapPlan(one.name, kind, keys, slots=slots)
            if kind == "lhist" and value is not None:
                known.least, known.most, known.step = self._range(value)
        if known.kind != kind:
            raise wrong(self.text, one.at, f"{one.name} is of {known.kind} already, not of {kind}")
        together = _together(known.keys, keys)
        if together is None:
            raise wrong(self.text, one.at, f"{one.name} has other keys elsewhere")
        known.keys = together
        if (
            kind == "lhist"
            and value is not None
            and self._range(value) != (known.least, known.most, known.step)
        ):
            raise wrong(self.text, one.at, f"{one.name} has another range elsewhere")
        return known

    def _range(self, value: Call) -> tuple[int, int, int]:
        numbers = [_constant(one) for one in value.arguments[1:]]
        if len(numbers) != 3 or None in numbers:
            raise wrong(self.text, value.at, "lhist(value, least, most, step): three plain numbers")
        least, most, step = (int(one or 0) for one in numbers)
        if step < 1 or most <= least or (most - least) // step > _MOST_BUCKETS:
            told = f"lhist from {least} to {most} in steps of {step}: no range of 1 to {_MOST_BUCKETS} steps"
            raise wrong(self.text, value.at, told)
        return least, most, step

    def event(self, event: Event) -> int:
        """Return an event's number."""
        self.events.append(event)
        return len(self.events) - 1


def _together(known: tuple[str, ...], keys: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the kinds of keys that are used in two ways; None where those are not of one size."""
    if len(known) != len(keys):
        return None
    found = []
    for one, other in zip(known, keys, strict=True):
        if (one != other and WORDS_OF[one] != 1) or WORDS_OF[one] != WORDS_OF[other]:
            return None
        found.append(one if one == other else "address")
    return tuple(found)


def _constant(one: Expression) -> int | None:
    if isinstance(one, Unary) and one.operator == "-":
        inner = _constant(one.operand)
        return None if inner is None else -inner
    return one.value if isinstance(one, Number) else None


def conversions(text: str) -> list[str]:
    """Return the conversions of a format, ``d`` or ``s`` and the like; raise `Misuse` for what is none."""
    found = []
    for match in _CONVERSION.finditer(text):
        letter = match[5]
        if letter == "%":
            continue
        if letter not in "diuxXcsp" or not letter:
            raise Misuse(f"'{match[0]}' is no conversion: %d %u %x %c %s %p")
        found.append(letter)
    return found
