"""The kernel component as a client sees it: install, apply, remove, collect; the only writer of guest memory.

Every change of the guest is one call of the stub (stub.S), which completes even when the client
dies during it, so the patch table and the text always agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout, stub
from kgdbpatch.component.arena import Arena, Header, Record, checksum, field_offset
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.references import interrupted_contexts
from kgdbpatch.component.stub import Command, StubFailed
from kgdbpatch.component.translate import PAGE, translate
from kgdbpatch.errors import MemoryFault, Refused
from kgdbpatch.guests.profile import ArenaPlan
from kgdbpatch.patch.plan import Plan
from kgdbpatch.target.gdb import Debugger, GRegisters, Session
from kgdbpatch.target.qemu import Qemu

__all__ = ["Component", "Stop"]

_TRIES = 16  # attempts to stop the CPU where interrupts are on


class Stop:
    """A stopped guest, ready for calls of the stub."""

    def __init__(self, session: Session, arena: int) -> None:
        self._session, self._arena = session, arena

    def write(self, physical: int, data: bytes) -> None:
        """Write bytes that no CPU executes or trusts yet."""
        self._session.write_physical(physical, data)

    def call(self, commands: Sequence[Command]) -> list[int]:
        """Have the stub obey ``commands``; return their results (see `stub.call`)."""
        return stub.call(self._session, self._arena, commands)

    def program_counters(self) -> list[int]:
        """Return every register of the CPU that can hold a code address: pc, lr, ctr, srr0."""
        registers = GRegisters(self._session.read_all())
        return [registers[name] for name in ("pc", "lr", "ctr")] + [self._session.register("srr0")]


class Component:
    """Drive the kernel component of one guest.

    ``debugger`` gives a started debugger; ``to_physical`` the physical address of a wired
    kernel address, or None.
    """

    def __init__(
        self, qemu: Qemu, debugger: Callable[[], Debugger], to_physical: Callable[[int], int | None]
    ) -> None:
        self._qemu, self._debugger, self._to_physical = qemu, debugger, to_physical
        self.pause = 0.0  # seconds the last operation stopped the guest

    def header(self, physical: int) -> Header | None:
        """Return the header of the arena at ``physical``, or None when nothing is installed there."""
        return Arena.header(self._qemu.ram, physical)

    def arena(self, plan: ArenaPlan) -> Arena:
        """Return the arena at ``plan``, for reading."""
        return Arena(self._qemu.ram, plan)

    @contextmanager
    def stop(self, arena: ArenaPlan) -> Iterator[Stop]:
        """Stop the guest for one operation, preferably where interrupts are on; resume it after.

        A call of the stub that a dead client left behind is brought to its end first.
        """
        started = time.perf_counter()
        try:
            with self._debugger().stopped() as session:
                registers = GRegisters(session.read_all())
                if stub.in_stub(registers, arena.physical):
                    stub.finish(session, arena.physical)
                for _ in range(_TRIES):
                    if stub.interruptible(GRegisters(session.read_all())):
                        break
                    session.resume()
                    session.interrupt()
                yield Stop(session, arena.physical)
        finally:
            self.pause = time.perf_counter() - started

    def install(self, arena: ArenaPlan, image_sha256: str, baseline: dict[int, int]) -> Header:
        """Write the component into hidden RAM, map the arena and its springboard window.

        ``baseline`` are the words in which the running kernel differs from its image. Raises
        `Refused` (rule ``mapping``) when no BAT pair is free.
        """
        if len(baseline) > layout.BASELINE_ENTRIES:
            raise Refused("memory", f"{len(baseline)} words of the running kernel differ from its image")
        with self.stop(arena) as stop:
            stop.write(arena.physical, bytes(layout.STUB_OFFSET))
            stop.write(arena.physical + layout.STUB_OFFSET, stub.CODE)
            table = layout.RECORDS * layout.RECORD.itemsize
            if any(self._qemu.ram.read(arena.physical + layout.TABLE_OFFSET, table)):
                stop.write(arena.physical + layout.TABLE_OFFSET, bytes(table))
            entries = np.array(sorted(baseline.items()), ">u4").reshape(-1, 2)
            if entries.size:
                stop.write(arena.physical + layout.BASELINE_OFFSET, entries.tobytes())
            stop.call([Command(Op.FLUSH, arena.physical + layout.STUB_OFFSET, len(stub.CODE))])
            stop.call([Command(Op.STATE, arena.physical + layout.STATE_OFFSET)])
            bat = self._free_bat(arena)
            stop.call(_mapping(arena, bat))
            header = np.zeros(1, layout.HEADER)
            header["version"] = layout.VERSION
            header["physical"], header["size"], header["virtual"] = arena.physical, arena.size, arena.virtual
            header["bat"], header["next_id"], header["baseline_count"] = bat, 1, len(baseline)
            if arena.springboards is not None:
                header["springboards"] = arena.springboards.start
                header["springboards_end"] = arena.springboards.end
            header["image_sha256"] = bytes.fromhex(image_sha256)
            stop.write(arena.physical, header.tobytes())
            stop.write(arena.physical, layout.MAGIC)  # last: from here on it counts as installed
        installed = self.header(arena.physical)
        assert installed is not None
        return installed

    def read(self, header: Header, virtual: int, size: int) -> bytes:
        """Read memory as the CPU maps it for the kernel, whatever runs now.

        Raises `MemoryFault` with the first address that is not mapped to RAM.
        """
        data, ram = b"", self._qemu.ram
        with self.stop(header.arena) as stop:
            stop.call([Command(Op.STATE, header.arena.physical + layout.STATE_OFFSET)])
            state = self._state(header.arena)
            while len(data) < size:
                address = virtual + len(data)
                wanted = min(size - len(data), PAGE - address % PAGE)
                physical = translate(state, ram, address) if address < 1 << 32 else None
                if physical is None or physical + wanted > ram.size:
                    raise MemoryFault(f"the kernel has no memory mapped at 0x{address:08x}", address)
                data += ram.read(physical, wanted)
        return data

    def snapshot(self, header: Header, tag: str) -> None:
        """Save the guest's whole state under ``tag``, the decrementer's in the arena."""
        with self.stop(header.arena) as stop:
            stop.call([Command(Op.STATE, header.arena.physical + layout.STATE_OFFSET)])
            self._qemu.savevm(tag)

    def restore(self, physical: int, tag: str) -> None:
        """Bring the state saved under ``tag`` back; ``physical`` is the arena's address.

        QEMU before 8.2 leaves the decrementer with the deadline it had when it was told to go
        back, so a guest would get no clock tick for as long as it had run since.
        """
        self._qemu.loadvm(tag)
        header = self.header(physical)
        if header is None:
            return
        value = int(self._state(header.arena)["dec"])
        with self.stop(header.arena) as stop:
            stop.call([Command(Op.DECREMENTER, value)])

    def _state(self, arena: ArenaPlan) -> np.void:
        raw = self._qemu.ram.read(arena.physical + layout.STATE_OFFSET, layout.STATE.itemsize)
        state: np.void = np.frombuffer(raw, layout.STATE)[0]
        return state

    def _free_bat(self, arena: ArenaPlan) -> int:
        state = self._state(arena)
        ours = _mapping(arena, 0)[0].b
        for number in range(4):
            uppers = (int(state["ibat"][number][0]), int(state["dbat"][number][0]))
            if all(upper & 3 == 0 or upper == ours for upper in uppers):
                return number
        raise Refused(
            "mapping", "all BAT pairs of the CPU are in use by the kernel; the arena cannot be mapped"
        )

    def apply(self, header: Header, slot: int, plan: Plan) -> int:
        """Put one patch in; return its id.

        Body, springboard and record are written first; then one call of the stub maps, flushes,
        records and splices. Raises `Refused` (rule ``expected``) when the site's word is not
        what the plan was made from; nothing is left behind then.
        """
        arena = self.arena(header.arena)
        physical = self._to_physical(plan.site)
        assert physical is not None
        record = np.zeros(1, layout.RECORD)
        record["id"], record["site"], record["site_physical"] = header.next_id, plan.site, physical
        record["original"], record["splice"] = plan.original, plan.splice
        record["body"], record["body_size"] = plan.body, len(plan.code)
        record["constant_size"], record["counted"] = plan.constant_size, plan.counted
        record["glue_words"] = plan.body_words
        record["springboard"] = plan.springboard or 0
        record["springboard_slots"] = len(plan.springboard_code) // layout.SPRINGBOARD_SIZE
        record["crc"] = checksum(plan.code[: plan.constant_size], plan.springboard_code)
        record["guard_start"], record["guard_end"] = plan.guard
        record["created"] = int(time.time())
        at = arena.slot(slot)
        body = arena.inside(plan.body)
        next_id = header.arena.physical + field_offset("next_id", layout.HEADER)
        commands = _mapping(header.arena, header.bat)
        commands.append(Command(Op.FLUSH, body, len(plan.code)))
        if plan.springboard is not None:
            commands.append(
                Command(Op.FLUSH, arena.springboard(plan.springboard), len(plan.springboard_code))
            )
        commands += [
            Command(Op.STORE, next_id, header.next_id + 1),
            Command(Op.STORE, at, State.PENDING),
            Command(Op.SPLICE, physical, plan.original, plan.splice),
            Command(Op.STORE, at, State.ACTIVE),
        ]
        with self.stop(header.arena) as stop:
            stop.write(body, plan.code)
            if plan.springboard is not None:
                stop.write(arena.springboard(plan.springboard), plan.springboard_code)
            stop.write(at, record.tobytes())
            try:
                stop.call(commands)
            except StubFailed as error:
                stop.call([Command(Op.STORE, at, State.FREE)])
                raise _refusal(error, plan.site, plan.original) from error
        return header.next_id

    def remove(self, header: Header, records: Sequence[Record]) -> list[int]:
        """Take patches out, in one stop; return the ids whose memory is still referenced (retired).

        Retired patches of earlier removals are collected on the way. Raises `Refused` (rule
        ``expected``) when a site holds neither the splice nor the original word.
        """
        arena = self.arena(header.arena)
        with self.stop(header.arena) as stop:
            for start in range(0, len(records), layout.MAX_COMMANDS // 2):
                commands = []
                for record in records[start : start + layout.MAX_COMMANDS // 2]:
                    if record.spliced:
                        commands.append(
                            Command(Op.SPLICE, record.site_physical, record.splice, record.original)
                        )
                    if record.state is not State.RETIRED:
                        commands.append(Command(Op.STORE, arena.slot(record.slot), State.RETIRED))
                if commands:
                    try:
                        stop.call(commands)
                    except StubFailed as error:
                        site = commands[error.index].a
                        raise _refusal(error, site, commands[error.index].b) from error
            return self._collect(header, stop)

    def collect(self, header: Header) -> list[int]:
        """Free what no CPU and no thread refers to any more; return the ids that stay retired."""
        with self.stop(header.arena) as stop:
            return self._collect(header, stop)

    def _collect(self, header: Header, stop: Stop) -> list[int]:
        arena = self.arena(header.arena)
        retired = [record for record in arena.records() if record.state is State.RETIRED]
        if not retired:
            return []
        pinned = {record.slot for record in retired if record.entered}
        ranges = {record.slot: record.unguarded for record in retired if record.slot not in pinned}
        counters = stop.program_counters()
        skip = (header.arena.physical, header.arena.physical + header.arena.size)
        held = [
            pc
            for _, pc in interrupted_contexts(self._memory(skip), [r for rs in ranges.values() for r in rs])
        ]
        for slot, pieces in ranges.items():
            if any(low <= pc < high for low, high in pieces for pc in (*counters, *held)):
                pinned.add(slot)
        commands = [
            Command(Op.STORE, arena.slot(record.slot), State.FREE)
            for record in retired
            if record.slot not in pinned
        ]
        for start in range(0, len(commands), layout.MAX_COMMANDS):
            stop.call(commands[start : start + layout.MAX_COMMANDS])
        return [record.id for record in retired if record.slot in pinned]

    def _memory(self, skip: tuple[int, int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield all memory in which kernel stacks can be: what was ever used, less the arena."""
        ram = self._qemu.ram
        for start, end in ram.touched():
            for low, high in ((start, min(end, skip[0])), (max(start, skip[1]), end)):
                if low < high:
                    yield low, ram.array(low, high - low)


def _refusal(error: StubFailed, site: int, expected: int) -> Exception:
    if error.op is not Op.SPLICE:
        return error
    return Refused(
        "expected",
        f"the word at 0x{site:08x} is 0x{error.result:08x}, not 0x{expected:08x} as expected; "
        "nothing was changed",
        site,
    )


def _mapping(arena: ArenaPlan, bat: int) -> list[Command]:
    """Return the commands that map the arena (BAT, PEM 7.4) and its springboard page (PTE, PEM 7.6)."""
    supervisor, memory_coherent, read_write = 2, 0x10, 2
    upper = arena.virtual | (arena.size // 0x20000 - 1) << 2 | supervisor
    commands = [Command(Op.BAT, bat, upper, arena.physical | memory_coherent | read_write)]
    if arena.springboards is not None:
        referenced_changed = 0x180
        page = arena.physical + layout.SPRINGBOARD_OFFSET
        commands.append(
            Command(
                Op.MAP, arena.springboards.start, page | referenced_changed | memory_coherent | read_write
            )
        )
    return commands
