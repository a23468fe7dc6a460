"""`ComponentClient` on a guest without QEMU: what it writes, what it undoes, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.component.layout import Op
from kgdbpatch.cpu.msr import EE, ME, NAP
from kgdbpatch.errors import ComponentDamaged, MemoryFault, Outdated, Refused, TargetTimeout
from kgdbpatch.personality.base import ArenaPlan
from kgdbpatch.results import PatchState
from kgdbpatch.vm.registers import Layout

from .fake import KERNEL, Killed
from .sample import ADD, FAR, NEAR, SITES, TEXT, Sample

both = pytest.mark.parametrize("plan", [pytest.param(NEAR, id="near"), pytest.param(FAR, id="far")])


def states(sample: Sample) -> dict[int, str]:
    return {record.id: str(record.state) for record in sample.arena.records()}


def agree(sample: Sample) -> None:
    """Table, bodies and text say the same."""
    table = sample.arena.table()
    tops = table.tops()
    assert {at: sample.ram.word(at) for at in SITES} == {at: tops.get(at, ADD) for at in SITES}
    assert PatchState.DAMAGED not in [record.state for record in table.records()]
    live = table.select(table.states == 1)  # active: what the text leads to
    assert sample.arena.damaged_bodies(live) == []


@both
def test_patches_go_in_in_one_stop_and_leave_nothing(plan: ArenaPlan) -> None:
    sample = Sample(plan)
    text, stops = sample.text(), sample.machine.stops
    assert sample.apply(*SITES[:3]) == [1, 2, 3]
    assert sample.machine.stops == stops + 1
    assert states(sample) == {1: "active", 2: "active", 3: "active"}
    assert {record.entry for record in sample.arena.records()} == {
        "branch" if plan is NEAR else "springboard"
    }
    agree(sample)
    assert sample.text() != text
    assert sample.remove(1, 2, 3) == []
    assert sample.machine.stops == stops + 2
    assert (sample.text(), states(sample), sample.arena.used()) == (text, {}, 0)
    assert sample.apply(SITES[0]) == [4], "an id is never given twice"


def test_no_plans_are_no_stop() -> None:
    sample = Sample()
    stops = sample.machine.stops
    assert sample.apply() == []
    assert sample.machine.stops == stops


def with_holes(plan: ArenaPlan) -> Sample:
    """Return a guest with patches in slots 0, 2 and 4, so that three more are a batch of three spans."""
    sample = Sample(plan)
    sample.apply(*SITES[:5])
    sample.remove(2, 4)
    return sample


@both
def test_a_batch_takes_the_holes_of_the_table(plan: ArenaPlan) -> None:
    sample = with_holes(plan)
    sample.machine.obeyed.clear()
    assert sample.apply(*SITES[10:14]) == [6, 7, 8, 9]
    assert sample.machine.obeyed.count(Op.APPLY) == 3
    assert [record.slot for record in sample.arena.records()] == [0, 2, 4, 1, 3, 5, 6]
    assert [record.site for record in sample.arena.records()][3:] == SITES[10:14]
    agree(sample)
    assert sample.remove(*states(sample)) == []
    assert sample.arena.used() == 0
    agree(sample)


@both
@pytest.mark.parametrize("bad", range(5))
def test_one_site_that_has_changed_undoes_the_whole_batch(plan: ArenaPlan, bad: int) -> None:
    sample = with_holes(plan)
    planned = sample.planned(SITES[10:15])
    before, used = states(sample), sample.arena.used()
    sample.ram.put(SITES[10 + bad], 0x3884_0001)  # addi r4,r4,1: the kernel's, since it was looked at
    text = sample.text()
    with pytest.raises(Refused, match=rf"0x{SITES[10 + bad]:08x} is 0x38840001, not 0x38630001") as refused:
        sample.client.apply(sample.header, planned)
    assert (refused.value.rule, refused.value.address) == ("expected", SITES[10 + bad])
    assert (sample.text(), states(sample), sample.arena.used()) == (text, before, used)
    assert sample.apply(SITES[20])[0] > max(before), "and the next one goes in"


def test_a_full_page_table_is_refused_and_nothing_is_left() -> None:
    sample = with_holes(FAR)
    text, before = sample.text(), states(sample)
    sample.machine.no_pages = True
    with pytest.raises(Refused, match="no entry left") as refused:
        sample.apply(*SITES[10:13])
    assert refused.value.rule == "mapping"
    assert (sample.text(), states(sample)) == (text, before)
    sample.machine.no_pages = False
    assert len(sample.apply(*SITES[10:13])) == 3


def test_plans_from_before_another_clients_change_are_outdated() -> None:
    sample = Sample()
    planned, basis = sample.planned(SITES[:2]), sample.arena.basis()
    sample.another().apply(sample.header, sample.planned(SITES[5:6]))
    text, before = sample.text(), states(sample)
    with pytest.raises(Outdated):
        sample.client.apply(sample.header, planned, basis=basis)
    table = sample.arena.table()
    with pytest.raises(Outdated):
        sample.client.remove(sample.header, table, {1}, basis)
    assert (sample.text(), states(sample)) == (text, before)
    agree(sample)


def test_what_patches_count_outdates_no_plan() -> None:
    sample = Sample()
    sample.apply(SITES[0])
    planned, basis = sample.planned(SITES[1:2]), sample.arena.basis()
    sample.ram.put(sample.arena.slot(0) + field_offset("hits", layout.RECORD), 77)
    assert sample.client.apply(sample.header, planned, basis=basis) == [2]
    assert [record.hits for record in sample.arena.records()] == [77, 0]


def test_the_record_of_a_damaged_patch_is_dropped_and_its_word_left() -> None:
    sample = Sample()
    sample.apply(*SITES[:3])
    sample.ram.put(SITES[1], 0x6000_0000)
    assert states(sample) == {1: "active", 2: "damaged", 3: "active"}
    assert sample.remove(1, 2, 3) == []
    assert states(sample) == {}
    assert [sample.ram.word(at) for at in SITES[:3]] == [ADD, 0x6000_0000, ADD]


def test_a_word_that_changes_before_the_stop_ends_a_removal_and_is_told() -> None:
    sample = Sample()
    sample.apply(*SITES[:4])
    table = sample.arena.table()
    sample.ram.put(SITES[2], 0x6000_0000)
    with pytest.raises(Refused, match=r"as patch 3 expects; out are 1, 2, the others are left in") as refused:
        sample.client.remove(sample.header, table, {1, 2, 3, 4})
    assert (refused.value.rule, refused.value.address) == ("expected", SITES[2])
    assert states(sample) == {1: "retired", 2: "retired", 3: "damaged", 4: "active"}
    assert sample.ram.word(SITES[2]) == 0x6000_0000


def test_a_changed_word_of_a_body_is_told_by_its_site() -> None:
    sample = Sample()
    sample.apply(*SITES[:3])
    record = sample.arena.records()[1]
    for at in range(
        sample.arena.inside(record.body), sample.arena.inside(record.body) + record.constant_size, 4
    ):
        assert sample.arena.damaged_bodies(sample.arena.table()) == []
        word = sample.ram.word(at)
        sample.ram.put(at, word ^ 0x0001_0000)
        assert sample.arena.damaged_bodies(sample.arena.table()) == [SITES[1]]
        sample.ram.put(at, word)


@both
@pytest.mark.parametrize("work", ["apply", "remove"])
def test_a_client_that_dies_at_any_step_leaves_all_or_nothing(plan: ArenaPlan, work: str) -> None:
    for fuse in range(100):
        sample = with_holes(plan)
        registers = sample.machine.read_all()
        planned, before = sample.planned(SITES[10:14]), sample.text()
        sample.machine.fuse = fuse
        try:
            if work == "apply":
                sample.client.apply(sample.header, planned)
            else:
                sample.remove(1, 3, 5)
        except Killed:
            sample.machine.fuse = None
        else:
            break
        assert sample.machine.read_all() == registers, "the guest goes on as if nothing had been"
        agree(sample)
        patched = [at for at in SITES if sample.ram.word(at) != ADD]
        after = [*SITES[0:5:2], *SITES[10:14]] if work == "apply" else []
        assert sample.text() == before or patched == after, fuse
        client = sample.another()
        assert client.remove(sample.header, sample.arena.table(), set(states(sample))) == []
        assert (states(sample), sample.arena.used()) == ({}, 0)
        agree(sample)
    assert fuse > 3


def test_an_installation_that_was_cut_off_is_none() -> None:
    fuse = 0
    while True:
        sample = Sample()
        sample.machine.bats = [[0, 0] for _ in range(8)]
        sample.ram.write(sample.plan.physical, bytes(layout.HEADER.itemsize))
        sample.machine.fuse = fuse
        try:
            sample.client.install(sample.plan, "00" * 32, {0x2000: 0x6000_0000})
        except Killed:
            assert sample.client.header(sample.plan.physical) is None
        else:
            break
        fuse += 1
    assert sample.header.baseline == {0x2000: 0x6000_0000}
    assert fuse > 3


def test_an_installation_over_an_older_one_that_was_cut_off_is_none() -> None:
    """Hidden memory outlives a reset of the guest: what was installed then is not to be found half new."""
    for fuse in range(100):
        sample = Sample()
        older = sample.header
        sample.machine.bats = [[0, 0] for _ in range(8)]
        sample.machine.fuse = fuse
        try:
            sample.client.install(sample.plan, "11" * 32, {0x2000: 0x6000_0000})
        except Killed:
            found = sample.client.header(sample.plan.physical)
            assert found == (None if fuse else older), fuse
        else:
            break
    assert fuse > 3
    assert (sample.header.image_sha256, sample.header.next_id) == ("11" * 32, 1)


def test_nothing_of_an_older_installation_comes_back() -> None:
    sample = Sample()
    sample.apply(*SITES[:5])
    traps = sample.plan.physical + layout.TRAPS_OFFSET
    sample.ram.put(traps + 0x400, SITES[0], 0x1234)
    sample.machine.bats = [[0, 0] for _ in range(8)]
    sample.ram.put(TEXT.start, *[ADD] * (len(TEXT) // 4))
    sample.client.install(sample.plan, "11" * 32, {})
    assert not sample.ram.array(traps, layout.TRAP_ENTRIES * layout.TRAP.itemsize).any()
    (_, plan), *_ = sample.planned(SITES[:1])
    assert sample.client.apply(sample.header, [(layout.QUICK, plan)]) == [1]
    assert states(sample) == {1: "active"}, "and none of the entries before it"


def test_where_the_arena_is_already_the_kernels() -> None:
    """By its BATs or its page table; nothing is mapped then, and nothing counts as installed."""
    for upper in (0x4000_0002, 0x0100_0002, 0x3C00_1FFE):
        sample = Sample()
        sample.machine.bats = [[0, 0] for _ in range(8)]
        sample.machine.bats[5] = [upper, 0x2]
        before = [*map(tuple, sample.machine.bats)]
        with pytest.raises(Refused, match="where the arena is to be"):
            sample.client.install(NEAR, "00" * 32, {})
        assert [*map(tuple, sample.machine.bats)] == before
        assert sample.client.header(NEAR.physical) is None


def test_an_arena_that_no_bat_can_map_costs_no_stop() -> None:
    sample = Sample()
    stops = sample.machine.stops
    with pytest.raises(Refused, match="no multiple"):
        sample.client.install(replace(NEAR, physical=NEAR.physical + (1 << 20)), "00" * 32, {})
    assert sample.machine.stops == stops


def test_as_many_words_may_differ_as_there_is_room_for() -> None:
    sample = Sample()
    most = {4 * number: 0x6000_0000 for number in range(layout.BASELINE_ENTRIES)}
    assert sample.client.install(NEAR, "00" * 32, most).baseline == most
    with pytest.raises(Refused, match="32769 words"):
        sample.client.install(NEAR, "00" * 32, most | {0x100_0000: 0})


@pytest.mark.parametrize("msr", [ME, KERNEL | NAP, KERNEL & ~EE & ~2])
def test_nothing_is_done_where_the_cpu_cannot_be_lent(msr: int) -> None:
    """It naps, or it is where an exception has just begun and does not get on."""
    sample = Sample()
    planned, before = sample.planned(SITES[:1]), sample.ram.read(0, sample.ram.size)
    sample.machine.set(msr=msr)
    with pytest.raises(TargetTimeout):
        sample.client.apply(sample.header, planned)
    assert sample.ram.read(0, sample.ram.size) == before
    sample.machine.set(msr=KERNEL)
    assert sample.client.apply(sample.header, planned) == [1]


def test_a_removal_waits_for_interrupts_to_be_on() -> None:
    """Where they are off, the kernel is in the midst of something that its stacks do not show."""
    sample = Sample()
    sample.apply(SITES[0])
    sample.machine.set(msr=KERNEL & ~EE)
    resumed = sample.machine.resumed
    sample.remove(1)
    assert sample.machine.resumed > resumed + 8
    sample.machine.set(msr=KERNEL)
    resumed = sample.machine.resumed
    sample.apply(SITES[0])
    assert sample.machine.resumed == resumed


def test_memory_is_read_as_the_cpu_maps_it() -> None:
    sample = Sample()
    assert sample.client.read(sample.header, NEAR.virtual, 8) == layout.MAGIC
    shown = NEAR.near.start if NEAR.near else 0
    behind = sample.ram.read(48 << 20, 64)
    assert sample.client.read(sample.header, shown, 64) == behind
    with pytest.raises(MemoryFault) as fault:
        sample.client.read(sample.header, NEAR.virtual + NEAR.size - 4, 8)
    assert fault.value.address == NEAR.virtual + NEAR.size


@pytest.mark.parametrize(("held", "put_back"), [(0x1234, 0x1234), (0xFFFF_FF00, 1)])
def test_a_restored_guest_has_its_clock_and_gives_no_id_twice(held: int, put_back: int) -> None:
    sample = Sample()
    sample.apply(SITES[0])
    sample.machine.decrementer = held
    sample.client.snapshot(sample.header, "before")
    sample.apply(SITES[1])
    sample.machine.decrementer = 0x77
    sample.client.restore(sample.plan.physical, "before")
    assert sample.machine.decrementer == put_back
    assert states(sample) == {1: "active"}
    agree(sample)
    assert sample.apply(SITES[2]) == [3]


def test_ids_go_on_from_the_highest_ever_given() -> None:
    """Whichever of two lives a guest is put back to."""
    sample = Sample()
    sample.client.snapshot(sample.header, "early")
    sample.apply(*SITES[:3])
    sample.client.snapshot(sample.header, "late")
    sample.client.restore(sample.plan.physical, "early")
    assert sample.header.next_id == 4
    sample.client.install(sample.plan, "00" * 32, {})  # as a reset guest is given another component
    assert sample.header.next_id == 1
    sample.client.restore(sample.plan.physical, "late")
    assert sample.header.next_id == 4


@pytest.mark.parametrize("there", [True, False])
def test_what_had_no_component_can_be_brought_back(there: bool) -> None:
    """Or be left for what has one."""
    sample = Sample()
    with_one, empty = sample.ram.read(sample.plan.physical, layout.HEADER.itemsize), bytes(8)
    sample.client.snapshot(sample.header, "with")
    sample.ram.write(sample.plan.physical, empty)
    sample.machine.savevm("without")
    if there:
        sample.ram.write(sample.plan.physical, with_one)
    sample.client.restore(sample.plan.physical, "without" if there else "with")
    assert (sample.client.header(sample.plan.physical) is None) == there


def test_the_pause_is_the_debuggers() -> None:
    sample = Sample()
    assert sample.another().pause == 0.0
    sample.machine.pause = 0.25
    sample.apply(SITES[0])
    assert sample.client.pause == 0.25


def test_a_removal_that_comes_too_late_at_once_says_so() -> None:
    """The kernel has written to the first site after the table was read."""
    sample = Sample()
    sample.apply(*SITES[:2])
    table = sample.arena.table()
    sample.machine.at_stop = lambda: sample.ram.put(SITES[0], 0x6000_0000)
    with pytest.raises(Refused, match="as patch 1 expects; nothing was changed"):
        sample.client.remove(sample.header, table, {1, 2})


def test_a_header_that_was_written_over_is_told() -> None:
    sample = Sample()
    sample.ram.put(sample.plan.physical + 16, 0x1234_5678)
    with pytest.raises(ComponentDamaged):
        sample.client.header(sample.plan.physical)


def test_where_the_component_cannot_live() -> None:
    with pytest.raises(Refused, match="33000 words"):
        Sample().client.install(NEAR, "00" * 32, dict.fromkeys(range(33_000), 0))
    sample = Sample()
    sample.machine.bats = [[0xC000_0002 | n << 24, 2] for n in range(8)]
    with pytest.raises(Refused, match="BATs of the CPU are in use"):
        sample.client.install(NEAR, "00" * 32, {})
    sample = Sample()
    sample.machine.layout = Layout({"srr0": (0, 0, 4), "dbat0u": (1, 0, 4)})
    with pytest.raises(Refused, match="no ibat0u and no sdr1"):
        sample.client.install(NEAR, "00" * 32, {})
