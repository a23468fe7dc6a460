"""A removed patch's memory is given back when nobody is in it any more, and not before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.component.table import Record

from .sample import FAR, NEAR, SITES, STACK, TEXT, Sample


def only(sample: Sample) -> Record:
    (record,) = sample.arena.records()
    return record


def interrupted(sample: Sample) -> None:
    sample.interrupt_in(only(sample).body + 4)


def register(sample: Sample) -> None:
    sample.machine.set(r31=only(sample).body)


def link(sample: Sample) -> None:
    sample.machine.set(lr=only(sample).body + 8)


def exception(sample: Sample) -> None:
    sample.machine.special["srr0"] = only(sample).body + 4


def running(sample: Sample) -> None:
    sample.machine.set(pc=only(sample).body)


def on_the_springboard(sample: Sample) -> None:
    sample.machine.set(ctr=(only(sample).springboard or 0) + 4)


def let_go(sample: Sample) -> None:
    sample.machine.set(r31=0, lr=0, ctr=0, pc=TEXT.start)
    sample.machine.special["srr0"] = 0
    sample.ram.write(STACK, bytes(0x1000))


@pytest.mark.parametrize("hold", [interrupted, register, link, exception, running, on_the_springboard])
def test_who_is_inside_holds_the_memory(hold: Callable[[Sample], None]) -> None:
    sample = Sample(FAR)
    text = sample.text()
    sample.apply(SITES[0])
    hold(sample)
    body = only(sample)
    assert sample.remove(1) == [1]
    assert (sample.text(), str(only(sample).state)) == (text, "retired")
    kept = sample.ram.read(sample.arena.inside(body.body), body.body_size)
    assert sample.apply(SITES[1]) == [2]
    assert sample.ram.read(sample.arena.inside(body.body), body.body_size) == kept, "nothing took its place"
    assert [str(record.state) for record in sample.arena.records()] == ["retired", "active"]
    let_go(sample)
    assert sample.remove(1, 2) == []
    assert sample.arena.used() == 0


def test_a_context_that_nobody_comes_back_to_holds_nothing() -> None:
    sample = Sample()
    sample.apply(SITES[0])
    sample.interrupt_in(only(sample).body + 4, at=STACK + 0x200)
    sample.system.dead.add(STACK + 0x200)
    assert sample.remove(1) == []


def test_contexts_tell_where_they_are() -> None:
    sample = Sample()
    sample.apply(SITES[0], SITES[1])
    first, second = sample.arena.records()
    sample.interrupt_in(second.body + 4, at=STACK + 0x200)
    sample.interrupt_in(first.body, at=STACK + 0x300)
    found = sample.client.contexts(sample.header, [first, second])
    assert found == [(STACK + 0x200, second.body + 4), (STACK + 0x300, first.body)]
    assert sample.client.contexts(sample.header, [first]) == found[1:]


def test_the_arena_itself_is_no_stack() -> None:
    sample = Sample()
    sample.apply(SITES[0])
    sample.interrupt_in(only(sample).body, at=sample.plan.physical + 0x30_0000)
    assert sample.remove(1) == []


def test_a_sleeper_holds_the_memory_until_it_has_left() -> None:
    """Between the two counters a thread may sleep with nothing of it to be found."""
    sample = Sample()
    sample.client.apply(sample.header, sample.calling(SITES[0]))
    hits, exits = (sample.arena.slot(0) + field_offset(name, layout.RECORD) for name in ("hits", "exits"))
    sample.ram.put(hits, 3)
    sample.ram.put(exits, 2)
    assert sample.remove(1) == [1]
    assert sample.remove(1) == [1], "and again"
    sample.ram.put(exits, 3)
    assert sample.remove(1) == []
    assert sample.arena.used() == 0


def test_an_apply_collects_what_was_left() -> None:
    sample = Sample(NEAR)
    sample.apply(SITES[0])
    interrupted(sample)
    assert sample.remove(1) == [1]
    let_go(sample)
    assert sample.apply(SITES[1]) == [2]
    assert [record.id for record in sample.arena.records()] == [2]
    assert sample.arena.used() == sample.arena.records()[0].body_size
