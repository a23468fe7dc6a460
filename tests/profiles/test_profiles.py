"""What profiles make of what was gathered: callers named, figures read, calls nested, rates, stacks drawn."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.isa.decode import Instruction, decode
from kgdbpatch.profiles.callers import caller_rows
from kgdbpatch.profiles.flame import flame_graph
from kgdbpatch.profiles.folded import folded_lines, stack_of, stack_rows
from kgdbpatch.profiles.latency import BUCKETS, figures
from kgdbpatch.profiles.nesting import Call, Nesting, graph_lines, graph_rows
from kgdbpatch.profiles.rates import Counts, top_rows
from kgdbpatch.profiles.rings import Entry, Rings
from kgdbpatch.results import FrameRow

FUNCTION = 0x1000
WORDS = {0x2000: 0x4BFFF001, 0x2010: 0x48000101, 0x2020: 0x4E800421, 0x2030: 0x60000000}


def instruction(address: int) -> Instruction | None:
    return decode(WORDS[address], address) if address in WORDS else None


def test_callers_are_told_by_what_stands_there() -> None:
    counts = {at + 4: 10 * number for number, at in enumerate([*WORDS, 0x3000], 1)}
    rows = caller_rows(counts, FUNCTION, instruction, hex, patched=lambda at: at == 0x3000, lost=50)
    told = {row.site: (row.kind, row.through) for row in rows}
    assert told == {
        0x2000: ("call", None),
        0x2010: ("tail", "0x2110"),
        0x2020: ("pointer", None),
        0x2030: ("jump", None),
        0x3000: ("patch", None),
    }
    assert [row.count for row in rows] == [50, 40, 30, 20, 10]
    assert rows[0].share == 0.25
    assert caller_rows({}, FUNCTION, instruction, hex) == []


def memory(changes: int, *took: int) -> bytes:
    buckets = [0] * BUCKETS
    for one in took:
        buckets[one.bit_length()] += 1
    totals = (sum(took), min(took, default=0), max(took, default=0))
    return struct.pack(f">2I3Q{BUCKETS}I4x", changes, len(took), *totals, *buckets)


def test_figures_are_of_all_cpus() -> None:
    found, whole = figures(memory(4, 1, 5, 70) + memory(0) + memory(2, 3, 1 << 40))
    assert whole
    assert found[:4] == (5, 79 + (1 << 40), 1, 1 << 40)
    ranges = ((1, 2, 1), (2, 4, 1), (4, 8, 1), (64, 128, 1), (1 << 40, 1 << 41, 1))
    assert found.ranges() == ranges
    later, whole = figures(memory(5, 1, 5, 70, 9) + memory(0) + memory(2, 3, 1 << 40))
    assert not whole
    more = later.since(found)
    assert (more.calls, more.total, more.ranges()) == (1, 9, ((8, 16, 1),))
    assert more.least <= 9 <= more.most
    nothing = found.since(found)
    assert (nothing.calls, nothing.total) == (0, 0)


def test_rates_are_of_what_both_have() -> None:
    before = Counts(10.0, {16: 5, 32: (1 << 32) - 1, 64: 7}, {16: {16: 1, 20: 2}}, {16: 0.0})
    now = Counts(12.0, {16: 9, 32: 9, 48: 100, 64: 7}, {16: {16: 3, 20: 2}}, {16: 1e9})
    rows = top_rows(now, before, hex, interval=3, sort="calls", cpus=1)
    assert [(row.function, row.calls, row.calls_per_second) for row in rows] == [
        ("0x20", 10, 5),
        ("0x10", 4, 2),
    ]
    assert (rows[1].blocks, rows[1].time, rows[1].share) == (2, 1e9, 0.5)
    assert rows[0].blocks is rows[0].time is None
    assert top_rows(now, before, hex, interval=0, sort="time", cpus=None)[0].share is None


# ---- rings and nesting -----------------------------------------------------------------------------------


def ring(head: int, slots: int, rows: dict[int, list[int]], words: int) -> bytes:
    found = [0] * (2 + slots * words)
    found[0] = head
    for number, row in rows.items():
        at = 2 + number % slots * words
        found[at : at + words] = row
    return struct.pack(f">{len(found)}I", *found)


def test_rings_are_read_in_order_and_what_is_lost_is_told() -> None:
    slots, memory_ = 128, bytearray()

    def read(address: int, size: int) -> bytes:
        return bytes(memory_[address : address + size])

    rings = Rings(read, 0, cpus=1, slots=slots, words=2)
    memory_[:] = ring(50, slots, {number: [number, 7] for number in range(50)}, 2)
    assert [(one.number, one.words) for one in rings.news()] == [
        (number, [number, 7]) for number in range(50)
    ]
    memory_[:] = ring(150, slots, {number: [number, 7] for number in range(22, 150)}, 2)
    found = rings.news()
    assert [one.words[0] for one in found] == [*range(86, 150)]
    assert rings.lost == [(0, 50, 86)]
    assert rings.news() == []


class Machine:
    """Makes the events of threads that call and return, and knows what is within what."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.time = 0

    def tick(self) -> int:
        self.time += 1
        return self.time

    def call(self, tree: list[object], function: int, thread: int, depth: int = 1) -> Call:
        began, entered = self.tick(), len(self.entries)
        inner = [self.call(one, function + 16, thread, depth) for one in tree]  # type: ignore[arg-type]
        words = [function, 4, 0, thread, 0, began, 0, self.tick(), entered, depth]
        entry = Entry(0, len(self.entries), words)
        self.entries.append(entry)
        made = Call.of(entry)
        made.inner = inner
        return made


TREES: st.SearchStrategy[list[object]] = st.recursive(
    st.just([]), lambda inner: st.lists(inner, max_size=3), max_leaves=12
)


def shape(call: Call) -> list[object]:
    return [call.index, *map(shape, call.inner)]


@given(st.lists(TREES, min_size=1, max_size=5))
def test_calls_are_nested_as_they_were(given_trees: list[list[object]]) -> None:
    machine = Machine()
    made = [machine.call(tree, 16, number % 2) for number, tree in enumerate(given_trees)]
    found = Nesting(16).add(machine.entries)
    assert [shape(call) for call in found] == [shape(call) for call in made]


@given(st.lists(TREES, min_size=1, max_size=4), st.sets(st.integers(0, 40)))
def test_a_call_is_never_within_one_that_did_not_make_it(
    given_trees: list[list[object]], gone: set[int]
) -> None:
    """However many events are lost: what is shown within a call was; how many are missing is told."""
    machine = Machine()
    made = [machine.call(tree, 16, 0) for tree in given_trees]
    truly: dict[int, set[int]] = {}

    def note(call: Call) -> set[int]:
        truly[call.index] = {call.index}.union(*(note(one) for one in call.inner))
        return truly[call.index]

    for call in made:
        note(call)
    kept = [entry for entry in machine.entries if entry.number not in gone]
    lost = [(0, number, number + 1) for number in gone if number < len(machine.entries)]

    def check(call: Call) -> None:
        for one in call.inner:
            assert one.index in truly[call.index]
            check(one)
        assert call.lost == len(truly[call.index] & gone)

    for call in Nesting(16).add(kept, lost):
        check(call)


def test_calls_that_began_before_are_left_out() -> None:
    machine = Machine()
    machine.call([[], []], 16, 0)
    machine.call([[]], 16, 0)
    nesting = Nesting(16)
    nesting.begin([2])
    assert [call.index for call in nesting.add(machine.entries)] == [4]
    assert nesting.rest() == []


def test_a_tree_is_shown_with_braces() -> None:
    machine = Machine()
    call = machine.call([[[]], []], 16, 5)
    (found,) = Nesting(16).add(machine.entries)
    rows = [*graph_rows(found, 0, lambda at: f"f{at}", hex, per_tick=10, interrupts=frozenset({48}))]
    assert [row.depth for row in rows] == [0, 1, 2, 1]
    assert rows[0].own == rows[0].duration - rows[1].duration - rows[3].duration
    assert rows[0].address == call.function
    assert [line.partition("|  ")[2] for line in graph_lines(rows, str)] == [
        "f16() {",
        "  f32() {",
        "    ==========> f48();",
        "  } /* f32 */",
        "  f32();",
        "} /* f16 */",
    ]


# ---- stacks ----------------------------------------------------------------------------------------------


def frame(symbol: str, kind: str = "call") -> FrameRow:
    return FrameRow(0, 0, symbol, kind, 0)


def test_stacks_are_folded_and_drawn() -> None:
    stack = stack_of([frame("f+0x10 [mod]", "cpu"), frame("g+0x4"), frame("0x10", "process")], "in<it>")
    assert stack == ("in<it>", "[process]", "g", "f [mod]")
    assert stack_of([], None) == ("[unknown]",)
    rows = stack_rows(Counter({stack: 3, ("in<it>", "[process]"): 1}))
    assert [row.share for row in rows] == [0.75, 0.25]
    assert [*folded_lines(rows)] == ["in<it>;[process];g;f [mod] 3", "in<it>;[process] 1"]
    picture = ET.fromstring(flame_graph(rows, "a & b"))
    titles = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[:2] == ["all: 4 samples, 100.00%", "in<it>: 4 samples, 100.00%"]
    assert "f [mod]: 3 samples, 75.00%" in titles
    assert ET.fromstring(flame_graph([], "nothing")) is not None
