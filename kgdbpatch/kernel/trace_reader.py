"""Read what a trace has gathered so far, while the guest runs: events of the rings, elements of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel.trace_stacks import StackNames
from kgdbpatch.results import MapRow, TraceEvent
from kgdbpatch.tracing.formats import formatted
from kgdbpatch.tracing.plan import ADDITIVE, Gathered, MapPlan
from kgdbpatch.tracing.readout import Element, Key, map_size, merged, read_event, read_map
from kgdbpatch.tracing.stacks import frames_of

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Counted", "TraceReader"]

_MARGIN = 64  # slots of a ring that the guest may be writing while they are read
_HIGHEST = 1 << 32


@dataclass
class Counted:
    """Patches whose hits are a map's values."""

    ids: dict[int, int]  # patch: site
    by_function: bool
    exits: bool


class TraceReader:
    """Reads the memory that the payloads of a trace write; ``places`` are the addresses of its variables."""

    def __init__(self, kernel: Kernel, gathered: Gathered, cpus: int, slots: int) -> None:
        self._kernel, self._gathered, self._cpus, self._slots = kernel, gathered, cpus, slots
        self.places: dict[str, int] = {}
        self._counted: list[Counted] = []
        self._stacks = StackNames(kernel)
        self._tails = [0] * cpus
        self._cleared: dict[str, dict[Key, Element]] = {}
        self.lost = 0  # events that came faster than they were read
        self.over = False  # the program itself has ended the trace

    def count(self, counted: Counted) -> None:
        """Take the hits of patches for values of the map ``@``."""
        self._counted.append(counted)

    def _read(self, address: int, size: int) -> bytes:
        kernel = self._kernel
        return kernel._component.arena(kernel._header().arena).read(address, size)

    def _words(self, address: int, count: int) -> list[int]:
        data = self._read(address, 4 * count)
        return [int.from_bytes(data[at : at + 4], "big") for at in range(0, 4 * count, 4)]

    def _name(self, kind: str, words: tuple[int, ...]) -> object:
        if frames_of(kind):
            return self._stacks.stack(words)
        image, address = self._kernel.image, words[0]
        if kind == "function":
            function = image.function_at(address)
            return image.symbolize(address) if function is None else function.name
        return image.symbolize(address)

    def unread(self) -> int:
        """Return how often memory was to be read that is not the kernel's own."""
        if "ring" not in self.places:
            return 0
        rings = (self.places["ring"] + cpu * self._ring_size for cpu in range(self._cpus))
        return sum(self._words(ring + 4, 1)[0] for ring in rings)

    @property
    def _slot_words(self) -> int:
        return 1 + max([event.words for event in self._gathered.events] + [1])

    @property
    def _ring_size(self) -> int:
        return 8 + 4 * self._slot_words * self._slots

    def events(self) -> list[TraceEvent]:
        """Return the events since the last call, each CPU's in their order; the guest is not stopped.

        Those that came faster than they were read are counted in ``lost``.
        """
        found: list[TraceEvent] = []
        if "ring" not in self.places:
            return found
        words, size = self._slot_words, self._ring_size
        for cpu in range(self._cpus):
            ring = self.places["ring"] + cpu * size
            (head,) = self._words(ring, 1)
            tail = self._tails[cpu]
            waiting = (head - tail) % _HIGHEST
            if waiting > self._slots - _MARGIN:
                self.lost += waiting - (self._slots - _MARGIN)
                tail = (head - (self._slots - _MARGIN)) % _HIGHEST
                waiting = self._slots - _MARGIN
            slots = self._slotted(ring + 8, tail, waiting, words)
            (now,) = self._words(ring, 1)
            over = max((now - tail) % _HIGHEST - self._slots + 1, 0)  # written over meanwhile, one just now
            self.lost += min(over, waiting)
            for slot in slots[over:]:
                found.append(self._event(cpu, slot))
            self._tails[cpu] = head
        return found

    def _slotted(self, first: int, tail: int, count: int, words: int) -> list[list[int]]:
        """Return so many slots of a ring from number ``tail`` on."""
        found: list[list[int]] = []
        while count:
            at = tail % self._slots
            part = min(count, self._slots - at)
            flat = self._words(first + 4 * words * at, part * words)
            found += [flat[number : number + words] for number in range(0, len(flat), words)]
            tail, count = (tail + part) % _HIGHEST, count - part
        return found

    def _event(self, cpu: int, slot: Sequence[int]) -> TraceEvent:
        event = self._gathered.events[slot[0]]
        values = read_event(event, slot[1:], self._name)
        if event.kind == "stop":
            self.over = True
        text = event.text if event.kind == "map" else _text(event.kind, event.text, values)
        return TraceEvent(event.kind, cpu, text, values)

    def maps(self) -> list[MapRow]:
        """Return what all maps hold, largest last; the guest is not stopped."""
        rows: list[MapRow] = []
        for index, plan in enumerate(self._gathered.maps.values()):
            elements, lost = self._elements(index, plan)
            for key, element in _since(elements, self._cleared.get(plan.name, {})).items():
                rows.append(_row(plan, key, element, lost))
        return sorted(rows, key=lambda row: (row.map, row.value if isinstance(row.value, int) else row.count))

    def clear(self, name: str) -> None:
        """Have a map begin anew; raise `Misuse` for one of another kind than counts, sums and histograms."""
        plans = [*self._gathered.maps.values()]
        index = next((number for number, plan in enumerate(plans) if plan.name == name), None)
        if index is None:
            raise Misuse(f"the program has no map {name}")
        if plans[index].kind not in ADDITIVE:
            raise Misuse(f"{name} is {plans[index].kind}: only counts, sums and histograms can be cleared")
        self._cleared[name] = self._elements(index, plans[index])[0]

    def _elements(self, index: int, plan: MapPlan) -> tuple[dict[Key, Element], int]:
        parts, lost = [], 0
        place = self.places.get(f"map_{index}")
        if place is not None:
            _, size = map_size(plan)
            for copy in range(1 if plan.shared else self._cpus):
                part, missed = read_map(plan, self._read(place + copy * size, size), self._name)
                parts.append(part)
                lost += missed
        if plan.name == "@" and self._counted:
            parts.append(self._hits())
        return merged(plan, parts), lost

    def _hits(self) -> dict[Key, Element]:
        rows = {row.id: row for row in self._kernel.records()}
        found: dict[Key, Element] = {}
        for counted in self._counted:
            for patch, site in counted.ids.items():
                row = rows.get(patch)
                hits = 0 if row is None else (row.exits or 0) if counted.exits else row.hits
                if hits:
                    key: Key = (self._name("function", (site,)),) if counted.by_function else ()
                    found.setdefault(key, Element()).n += hits
        return found


def _since(now: dict[Key, Element], before: dict[Key, Element]) -> dict[Key, Element]:
    """Return what has been added; elements to which nothing was are left out."""
    found = {}
    for key, one in now.items():
        old = before.get(key)
        if old is not None:
            buckets = one.buckets - old.buckets if len(old.buckets) else one.buckets
            one = Element(one.n - old.n, one.value - old.value, buckets)
            if not one.n:
                continue
        found[key] = one
    return found


def _row(plan: MapPlan, key: Key, element: Element, lost: int) -> MapRow:
    value: int | float = element.value
    if plan.kind == "count":
        value = element.n
    elif plan.kind == "avg":
        value = element.value / element.n if element.n else 0.0
    buckets = tuple(
        (*_bounds(plan, index), int(count)) for index, count in enumerate(element.buckets.tolist()) if count
    )
    return MapRow(plan.name, key, plan.kind, value, element.n, buckets, lost)


def _bounds(plan: MapPlan, index: int) -> tuple[int | None, int | None]:
    """Return the least value of a bucket and what its values are below; None: no such bound."""
    if plan.kind == "hist":
        return (None, 0) if index == 0 else (0, 1) if index == 1 else (1 << index - 2, 1 << index - 1)
    if index == 0:
        return None, plan.least
    low = plan.least + (index - 1) * plan.step
    return (plan.most, None) if index == plan.buckets - 1 else (low, min(low + plan.step, plan.most))


def _text(kind: str, form: str, values: Key) -> str:
    return " ".join(map(str, values)) if kind == "print" else formatted(form, values)
