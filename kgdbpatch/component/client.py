"""The kernel component as a client sees it: install, apply, remove, collect; the only writer of guest memory.

Every change of the guest is one call of the stub (stub.S), which completes even when the client
dies during it, so the patch table and the text always agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout, quiescence, stages
from kgdbpatch.component.applying import Application
from kgdbpatch.component.arena import Arena, Header, field_offset
from kgdbpatch.component.failures import apply_error, removal_error
from kgdbpatch.component.layers import remove_layers
from kgdbpatch.component.layout import BlockEntries, Op, State
from kgdbpatch.component.ports import Cpu, Debugger, Guest, Personality, Session
from kgdbpatch.component.prepare import header_of, out_of_tails
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.component.stop import Stop
from kgdbpatch.component.table import STATES, Record, Table, runs
from kgdbpatch.component.traps import leading
from kgdbpatch.component.watched import watched
from kgdbpatch.errors import MemoryFault, Refused
from kgdbpatch.patch.trap import Hook
from kgdbpatch.patch.watch import Begun
from kgdbpatch.personality.base import ArenaPlan
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.patch.plan import Plan


__all__ = ["ComponentClient"]


class ComponentClient:
    """Drive the kernel component of one guest.

    ``debugger`` gives a started debugger; ``cpu`` and ``personality`` are all that is known of the
    guest's CPU and of its OS.
    """

    def __init__(
        self,
        guest: Guest,
        debugger: Callable[[], Debugger],
        cpu: Cpu,
        personality: Personality,
    ) -> None:
        self._guest, self._debugger = guest, debugger
        self._cpu, self._personality = cpu, personality
        self.pause = 0.0  # seconds the last operation stopped the guest
        self.due: list[Record] = []  # what the last `collect` keeps for no more than its exit calls

    @property
    def several(self) -> bool:
        """Whether a guest with several CPUs of this kind is served."""
        return self._cpu.several

    def header(self, physical: int) -> Header | None:
        """Return the header of the arena at ``physical``, or None when nothing is installed there."""
        return Arena.header(self._guest.ram, physical)

    def arena(self, plan: ArenaPlan) -> Arena:
        """Return the arena at ``plan``, for reading."""
        return Arena(self._guest.ram, plan, self._personality.loaded)

    @contextmanager
    def stop(self, arena: ArenaPlan, *, anywhere: bool = False) -> Iterator[Stop]:
        """Stop the guest for one operation, preferably where interrupts are on; resume it after.

        ``anywhere``: the first place will do where SRR0 and SRR1 are dead and the CPU is awake. What dead
        clients ordered is over then: QEMU serves one debugger after the other, and a call of the stub
        that was left behind is brought to its end first. Raises `TargetTimeout` where no such place comes.
        """
        debugger = self._debugger()
        try:
            with debugger.stopped() as session:
                yield Stop.begun(session, arena.physical, self._cpu, anywhere=anywhere)
        finally:
            self.pause = debugger.pause

    @contextmanager
    def halted(self) -> Iterator[Session]:
        """Stop the guest wherever it is; no call of the stub can be made. It is resumed after."""
        debugger = self._debugger()
        try:
            with debugger.stopped() as session:
                yield session
        finally:
            self.pause = debugger.pause

    def settle(self, arena: ArenaPlan) -> None:
        """Wait until what dead clients ordered is over: nothing but the kernel changes its memory then."""
        with self.stop(arena, anywhere=True):
            pass

    def free_entries(self, arena: ArenaPlan, *, paged: bool) -> tuple[BlockEntries, ...]:
        """Return what `Cpu.free_entries` says of the guest's CPU; the stub must be there (`KernelCalls`)."""
        with self.stop(arena) as stop:
            return self._cpu.free_entries(arena, self._cpu.merged(self._states(stop, arena)), paged=paged)

    def install(
        self,
        arena: ArenaPlan,
        image_sha256: str,
        baseline: dict[int, int],
        pages: Sequence[tuple[int, bytes]] = (),
    ) -> Header:
        """Write the component into hidden RAM, map the arena and its springboard window.

        ``baseline`` are the words in which the running kernel differs from its image. ``pages`` (physical
        address, bytes) go into the kernel's page tables, for the blocks that no entry of the MMU is left for.
        Raises `Refused` (rule ``mapping``) when too few of those are free, or the kernel maps those addresses
        itself.
        """
        if len(baseline) > layout.BASELINE_ENTRIES:
            raise Refused("memory", f"{len(baseline)} words of the running kernel differ from its image")
        self._cpu.check_blocks(arena)
        with self.stop(arena) as stop:
            stop.check_cpu()
            stop.write(arena.physical, bytes(layout.STUB_OFFSET))
            stop.write(arena.physical + layout.STUB_OFFSET, self._cpu.code)
            base, table = arena.physical, layout.records(arena.size) * layout.RECORD.itemsize
            self._clear(stop, base + layout.TRAPS_OFFSET, layout.TRAP_ENTRIES * layout.TRAP.itemsize)
            self._clear(stop, base + layout.TABLE_OFFSET, table)
            entries = np.array(sorted(baseline.items()), ">u4").reshape(-1, 2)
            stop.write(arena.physical + layout.BASELINE_OFFSET, entries.tobytes())
            stop.call([Command(Op.FLUSH, arena.physical + layout.STUB_OFFSET, len(self._cpu.code))])
            states = self._states(stop, arena)
            for state in states:
                self._cpu.check_unmapped(arena, state, self._guest.ram)
            merged = self._cpu.merged(states)
            mapped = self._cpu.free_entries(arena, merged, paged=bool(pages))
            for at, words in pages:
                stop.write(at, words)
            try:
                commands = [*self._cpu.make_room(arena, merged), *self._cpu.mapping(arena, mapped)]
                stop.elsewhere(commands)
                stop.obey(commands)
            except StubFailed as error:
                raise apply_error(error, arena.virtual, 0) from error
            shown = self._cpu.shown(arena, merged)
            stop.write(arena.physical, header_of(arena, mapped, entries.tobytes(), image_sha256, shown))
            stop.write(arena.physical, layout.MAGIC)  # last: from here on it counts as installed
        installed = self.header(arena.physical)
        assert installed is not None
        return installed

    def _states(self, stop: Stop, arena: ArenaPlan) -> list[np.void]:
        """Return every CPU's state; the one that is lent comes last, as it is in the arena then."""
        found, order = [], [Command(Op.STATE, arena.physical + layout.STATE_OFFSET)]
        for _ in stop.every_cpu():
            stop.ready()
            stop.call(order)
            found.append(self.state(arena))
        return found

    def read(self, header: Header, virtual: int, size: int) -> bytes:
        """Read memory as the CPU maps it for the kernel, whatever runs now; as `view`'s function."""
        with self.view(header) as read:
            return read(virtual, size)

    @contextmanager
    def view(self, header: Header) -> Iterator[Callable[[int, int], bytes]]:
        """Stop the guest, yield what reads bytes at a virtual address of the kernel's; or `MemoryFault`."""
        ram = self._guest.ram
        with self.stop(header.arena) as stop:
            state = self.state(header.arena, stop)

            def read(virtual: int, size: int) -> bytes:
                data = b""
                while len(data) < size:
                    address = virtual + len(data)
                    wanted = min(size - len(data), layout.PAGE - address % layout.PAGE)
                    physical = self._cpu.translate(state, ram, address) if address < 1 << 32 else None
                    physical = self._personality.mapped(address) if physical is None else physical
                    if physical is None or physical + wanted > ram.size:
                        raise MemoryFault(f"the kernel has no memory mapped at 0x{address:08x}", address)
                    data += ram.read(physical, wanted)
                return data

            yield read

    def snapshot(self, header: Header, tag: str) -> None:
        """Save the guest's whole state under ``tag``, the decrementer's in the arena."""
        with self.stop(header.arena) as stop:
            self.state(header.arena, stop)
            self._guest.savevm(tag)

    def restore(self, physical: int, tag: str) -> None:
        """Bring the state saved under ``tag`` back; ``physical`` is the arena's address.

        QEMU before 8.2 leaves the decrementer with the deadline it had when it was told to go
        back, so a guest would get no clock tick for as long as it had run since. Nor does it save an
        interrupt that is due: a decrementer below 0 is put back to where the next tick is one.
        """
        with self._debugger().stopped() as session:  # what a dead client ordered is over: it is of the past
            before = self.header(physical)
            self._guest.loadvm(tag)
            session.forget()
        header = self.header(physical)
        if header is None:
            return
        value = int(self.state(header.arena)["dec"])
        value = 1 if value & 0x8000_0000 else value
        commands = [Command(Op.DECREMENTER, value)]
        if before is not None and before.next_id > header.next_id:  # an id is never given twice
            at = physical + field_offset("next_id", layout.HEADER)
            commands.append(Command(Op.STORE, at, before.next_id))
        with self.stop(header.arena) as stop:
            stop.elsewhere(commands[:1])
            stop.call(commands)

    def state(self, arena: ArenaPlan, stop: Stop | None = None) -> np.void:
        """Return the CPU's state (`Cpu.state`): as it is now where the guest is stopped, else as noted."""
        if stop is not None:
            stop.call([Command(Op.STATE, arena.physical + layout.STATE_OFFSET)])
        raw = self._guest.ram.read(arena.physical + layout.STATE_OFFSET, self._cpu.state.itemsize)
        state: np.void = np.frombuffer(raw, self._cpu.state)[0]
        return state

    def _clear(self, stop: Stop, physical: int, size: int) -> None:
        """Zero memory, as far as it was ever used and is not zero."""
        for start, end in self._guest.ram.touched():
            start, end = max(start, physical), min(end, physical + size)
            if start < end and self._guest.ram.array(start, end - start).any():
                stop.write(start, bytes(end - start))

    def apply(
        self,
        header: Header,
        plans: Sequence[tuple[int, Plan]],
        hook: Hook | None = None,
        basis: bytes | None = None,
    ) -> list[int]:
        """Put patches in, in one stop, each into the table slot given with it; return their ids.

        ``hook`` is where the program exception is to be hooked when a patch is entered by a trap,
        ``basis`` the arena's that the plans were made from (default: the present one).

        Bodies, springboards and records are written first, in bulk; then one call of the stub
        maps, flushes, records and splices. Raises `Refused` (rule ``expected``) when a site's
        word is not what its plan was made from; nothing is left behind then. Raises `Outdated` when the
        arena is no longer what the plans were made from. Retired patches of earlier removals are
        collected on the way.
        """
        if not plans:
            return []
        application = self.application(header, plans, hook, basis)
        with self.stop(header.arena, anywhere=not application.retired) as stop:
            application.write(stop)
            application.splice(stop)
            if application.retired:
                self.collect(header, stop)
        return application.ids

    def application(
        self,
        header: Header,
        plans: Sequence[tuple[int, Plan]],
        hook: Hook | None = None,
        basis: bytes | None = None,
    ) -> Application:
        """Return what puts patches in, step by step; as `apply`, which does all in one stop."""
        arena = self.arena(header.arena)
        basis = arena.basis() if basis is None else basis
        return Application(
            *(self._guest.ram, self._cpu, self._personality, arena, header, plans, hook, basis),
            lambda stop: self._states(stop, header.arena),
        )

    def remove(self, header: Header, table: Table, ids: set[int], basis: bytes | None = None) -> list[int]:
        """Take the patches ``ids`` of ``table`` out, in one stop; return those whose memory is referenced.

        As `withdraw`; retired patches of earlier removals are collected on the way.
        """
        watch = watched(self._guest.ram, self.arena(header.arena), table)
        if (
            watch is not None and watch.id in ids
        ):  # a trap that is on its way comes to its end before the rest
            with self.stop(header.arena) as stop:
                watch.leave(stop)
                stop.obey([watch.mark(Begun.NO), *watch.traps_out()])
        with self.stop(header.arena) as stop:
            self.withdraw(header, stop, table, ids, basis)
            return self.collect(header, stop)

    def withdraw(
        self, header: Header, stop: Stop, table: Table, ids: set[int], basis: bytes | None = None
    ) -> None:
        """Take the patches ``ids`` of ``table`` out; they are retired then.

        ``basis`` as for `apply`, also `Outdated`. Of damaged ones, and those whose module was unloaded,
        the record is dropped and the site left alone. Raises `Refused` (rule ``expected``) when a
        site holds neither the splice nor the original word by now; it says what is out.
        """
        arena = self.arena(header.arena)
        basis = arena.basis() if basis is None else basis
        lost = [STATES.index(state) for state in (PatchState.DAMAGED, PatchState.UNLOADED)]
        damaged = np.isin(table.states, lost)
        chosen = np.isin(table.raw["id"], list(ids)) & (table.raw["state"] != State.RETIRED)
        orders = [
            Command(Op.STORE, arena.slot(slot), State.RETIRED)
            for slot in table.slots[chosen & damaged].tolist()
        ]
        chosen &= ~damaged
        for layers in table.layers():
            intact = [table.record(index) for index in layers if not damaged[index]]
            orders += remove_layers(self._guest.ram, arena, intact, ids)
            chosen[layers] = False
        spans = list(runs(table.slots[chosen].tolist()))
        commands = [Command(Op.WITHDRAW, arena.slot(first), count) for first, count in spans]
        arena.check(basis)
        sites, uncover = self._uncover(arena, stop, table, ids)
        watch = watched(self._guest.ram, arena, table)
        if watch is not None and watch.id in ids:  # no trap is left without what takes it out
            watch.leave(stop)
            stop.obey([watch.mark(Begun.NO), *watch.traps_out()])
            orders += watch.tail_out()
        commands = [*uncover, *commands, *orders]
        try:
            stop.obey(commands)
        except StubFailed as error:
            now = arena.table()
            if sites:
                stop.obey(self._lead_traps(arena, stop, now, sites))
            raise removal_error(error, commands[error.index], arena, now, ids) from error

    def _lead_traps(self, arena: Arena, stop: Stop, left: Table, sites: Iterable[int]) -> list[Command]:
        return leading(self._guest.ram, arena, stop, left, sites)

    def _uncover(
        self, arena: Arena, stop: Stop, table: Table, ids: set[int]
    ) -> tuple[list[int], list[Command]]:
        """Return sites of ``ids`` at which trapped patches stay, and the commands that lead traps to them.

        Where none does, the removed body is entered till it is freed: a trap may be on its way.
        """
        going = np.isin(table.raw["id"], list(ids))
        left = table.select(~going & table.trapped() & (table.raw["state"] != State.RETIRED))
        sites = sorted({*table.raw["site"][going & table.trapped()].tolist()} & {*left.raw["site"].tolist()})
        return sites, self._lead_traps(arena, stop, left, sites) if sites else []

    def collect(self, header: Header, stop: Stop) -> list[int]:
        """Free the memory of the retired patches that nothing refers to; return the ids of the others.

        One whose exit calls have not been made stays; where those are all that it waits for it is ``due``.
        """
        arena = self.arena(header.arena)
        if header.hook is not None:
            stop.leave_hook(header.hook)
        everything = arena.table()
        table = everything.select(everything.raw["state"] == State.RETIRED)
        pinned = table.entered()
        starts, ends, index = table.unguarded(np.flatnonzero(~pinned))
        contexts = self._contexts(header, list(zip(starts.tolist(), ends.tolist(), strict=True)))
        words = quiescence.return_addresses(self._stacks(header), table.returned_to(~pinned))
        cpus = stop.registers_of_all()
        may_resume = self._personality.may_resume
        resumed = [pc for one in cpus for pc in (one["lr"], *may_resume(contexts, one))]
        resumed += self._personality.may_return(words, cpus)
        for pc in (*stop.program_counters(header.arena.tails), *resumed):
            pinned[index[(starts <= pc) & (pc < ends)]] = True
        trapped = table.trapped()
        if header.hook is not None:
            pinned |= trapped & np.isin(table.raw["site"], stop.trapped(header.hook))
        quiescence.pin_needed(arena, everything, table, pinned)
        begun = stages.all_begun(arena, table)
        self.due = [table.record(index) for index in np.flatnonzero(begun & ~pinned).tolist()]
        if self.due:
            pinned |= begun
            quiescence.pin_needed(arena, everything, table, pinned)
        free = table.slots[~pinned].tolist()
        freed = table.raw["site"][trapped & ~pinned].tolist()
        commands = out_of_tails(arena, table.raw[~pinned])
        if freed or header.hook is not None:  # which a trap on its way has kept
            left = everything.select(~np.isin(everything.slots, free))
            commands += self._lead_traps(arena, stop, left, freed)
        marks = (Command(Op.MARK, arena.slot(first), count, State.FREE) for first, count in runs(free))
        stop.obey([*commands, *marks])
        return [*map(int, table.raw["id"][pinned])]

    def contexts(self, header: Header, records: Iterable[Record]) -> list[tuple[int, int]]:
        """Return (physical address, pc) of the interrupted contexts inside the bodies of ``records``."""
        return self._contexts(header, [(record.body, record.body + record.body_size) for record in records])

    def _contexts(self, header: Header, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return quiescence.interrupted_contexts(self._stacks(header), ranges, self._cpu.kernel_status)

    def _stacks(self, header: Header) -> quiescence.Pieces:
        start = header.arena.physical
        return quiescence.stack_memory(self._guest.ram, (start, start + header.arena.size))
