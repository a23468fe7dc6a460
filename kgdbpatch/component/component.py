"""The kernel component as a client sees it: install, apply, remove, list; the only writer of guest memory.

Every change of the guest is one call of the stub (stub.S), which completes even when the client
dies during it, so the patch table and the text always agree. What can be read is read from the
guest's RAM, mapped into this process, without stopping the guest.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout, stub
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.references import interrupted_contexts
from kgdbpatch.component.stub import Command, StubFailed
from kgdbpatch.errors import Refused, TargetLost
from kgdbpatch.guests.profile import ArenaPlan, Window
from kgdbpatch.patch.plan import Place, Plan
from kgdbpatch.target.gdb import Debugger, GRegisters, Session
from kgdbpatch.target.qemu import Qemu

__all__ = ["Component", "Header", "Record", "Stop"]

_TRIES = 16  # attempts to stop the CPU where interrupts are on


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the patch table, with the word now at its site."""

    slot: int
    id: int
    state: State
    site: int
    site_physical: int
    original: int
    splice: int
    body: int
    body_size: int
    constant_size: int
    springboard: int | None
    crc: int
    hits: int
    exits: int
    guard: tuple[int, int]
    glue_words: int
    counted: bool
    word: int  # at the site

    @property
    def status(self) -> str:
        """``active``, ``unfinished`` (apply was cut off), ``retired`` (removed, still referenced), ``damaged``."""
        if self.state is State.RETIRED:
            return "retired"
        if self.word == self.splice:
            return "active"
        return "unfinished" if self.word == self.original else "damaged"

    @property
    def spliced(self) -> bool:
        """Whether the site holds the splice word."""
        return self.state is not State.RETIRED and self.word == self.splice


@dataclass(frozen=True, slots=True)
class Header:
    """The arena's header: its place, the mapping in use and the identity of the patched kernel."""

    arena: ArenaPlan
    bat: int
    next_id: int
    image_sha256: str
    baseline: dict[int, int]  # address ─► word, where the running kernel differs from its image


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

    ``to_physical`` gives the physical address of a wired kernel address, or None.
    """

    def __init__(
        self, qemu: Qemu, debugger: Callable[[], Debugger], to_physical: Callable[[int], int | None]
    ) -> None:
        self._qemu, self._debugger, self._to_physical = qemu, debugger, to_physical
        self.pause = 0.0  # seconds the last operation stopped the guest

    # ---- reading, without a stop -------------------------------------------------

    def header(self, physical: int) -> Header | None:
        """Return the header of the arena at ``physical``, or None when nothing is installed there."""
        raw = np.frombuffer(self._qemu.ram.read(physical, layout.HEADER.itemsize), layout.HEADER)[0]
        if bytes(raw["magic"]) != layout.MAGIC:
            return None
        if int(raw["version"]) != layout.VERSION:
            raise TargetLost(f"the guest's kernel component has version {int(raw['version'])}, not {layout.VERSION}")
        count = int(raw["baseline_count"])
        entries = np.frombuffer(
            self._qemu.ram.read(physical + layout.BASELINE_OFFSET, count * layout.BASELINE.itemsize),
            layout.BASELINE,
        )
        window = Window(int(raw["springboards"]), int(raw["springboards_end"]))
        return Header(
            arena=ArenaPlan(int(raw["physical"]), int(raw["size"]), int(raw["virtual"]), window if window.end else None),
            bat=int(raw["bat"]),
            next_id=int(raw["next_id"]),
            image_sha256=bytes(raw["image_sha256"]).hex(),
            baseline=dict(zip(entries["address"].tolist(), entries["word"].tolist(), strict=True)),
        )

    def records(self, arena: ArenaPlan) -> list[Record]:
        """Return the table's used entries in the order of their ids."""
        raw = np.frombuffer(
            self._qemu.ram.read(
                arena.physical + layout.TABLE_OFFSET, layout.RECORDS * layout.RECORD.itemsize
            ),
            layout.RECORD,
        )
        records = [self._record(raw[slot], int(slot)) for slot in np.flatnonzero(raw["state"])]
        return sorted(records, key=lambda record: record.id)

    def _record(self, raw: np.void, slot: int) -> Record:
        site_physical = int(raw["site_physical"])
        return Record(
            slot=slot,
            id=int(raw["id"]),
            state=State(int(raw["state"])),
            site=int(raw["site"]),
            site_physical=site_physical,
            original=int(raw["original"]),
            splice=int(raw["splice"]),
            body=int(raw["body"]),
            body_size=int(raw["body_size"]),
            constant_size=int(raw["constant_size"]),
            springboard=int(raw["springboard"]) or None,
            crc=int(raw["crc"]),
            hits=int(raw["hits"]),
            exits=int(raw["exits"]),
            guard=(int(raw["guard_start"]), int(raw["guard_end"])),
            glue_words=int(raw["glue_words"]),
            counted=bool(raw["counted"]),
            word=int.from_bytes(self._qemu.ram.read(site_physical, 4), "big"),
        )

    def intact(self, arena: ArenaPlan, record: Record) -> bool:
        """Tell whether the code of a patch (body and springboard) is as it was written."""
        return record.crc == _crc(
            self._qemu.ram.read(self._inside(arena, record.body), record.constant_size),
            self._qemu.ram.read(self._springboard(arena, record.springboard), layout.SPRINGBOARD_SIZE)
            if record.springboard
            else b"",
        )

    def used(self, arena: ArenaPlan) -> int:
        """Return how many bytes of the arena hold patch bodies."""
        return sum(record.body_size for record in self.records(arena))

    # ---- places --------------------------------------------------------------------

    def place(self, arena: ArenaPlan, size: int, taken: Sequence[Record] = ()) -> tuple[int, Place]:
        """Return a free table slot and a place for a body of ``size`` bytes.

        Nothing is reserved: the table in the guest is the only truth. Raises `Refused` (rule
        ``memory``) when the arena or the table is full.
        """
        records = [*self.records(arena), *taken]
        used = {record.slot for record in records}
        slot = next((number for number in range(layout.RECORDS) if number not in used), None)
        if slot is None:
            raise Refused("memory", f"the patch table is full ({layout.RECORDS} patches)")
        start = arena.virtual + layout.BODIES_OFFSET
        for low, high in sorted((record.body, record.body + record.body_size) for record in records):
            if start + size <= low:
                break
            start = max(start, -(-high // layout.LINE) * layout.LINE)
        if start + size > arena.virtual + arena.size:
            raise Refused("memory", f"the arena has no room for {size} more bytes")
        springboard = None
        if arena.springboards is not None:
            held = {record.springboard for record in records}
            window = range(arena.springboards.start, arena.springboards.end, layout.SPRINGBOARD_SIZE)
            springboard = next((address for address in window if address not in held), None)
        counter = layout.TABLE_OFFSET + slot * layout.RECORD.itemsize + _offset("hits")
        return slot, Place(start, springboard, arena.virtual + counter)

    def _inside(self, arena: ArenaPlan, virtual: int) -> int:
        return virtual - arena.virtual + arena.physical

    def _springboard(self, arena: ArenaPlan, virtual: int | None) -> int:
        assert virtual is not None
        assert arena.springboards is not None
        return arena.physical + layout.SPRINGBOARD_OFFSET + virtual - arena.springboards.start

    # ---- changing ------------------------------------------------------------------

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

    def _free_bat(self, arena: ArenaPlan) -> int:
        state = np.frombuffer(
            self._qemu.ram.read(arena.physical + layout.STATE_OFFSET, layout.STATE.itemsize), layout.STATE
        )[0]
        ours = _mapping(arena, 0)[0].b
        for number in range(4):
            uppers = (int(state["ibat"][number][0]), int(state["dbat"][number][0]))
            if all(upper & 3 == 0 or upper == ours for upper in uppers):
                return number
        raise Refused("mapping", "all BAT pairs of the CPU are in use by the kernel; the arena cannot be mapped")

    def apply(self, header: Header, slot: int, plan: Plan) -> int:
        """Put one patch in; return its id.

        Body, springboard and record are written first; then one call of the stub maps, flushes,
        records and splices. Raises `Refused` (rule ``expected``) when the site's word is not
        what the plan was made from; nothing is left behind then.
        """
        arena = header.arena
        physical = self._to_physical(plan.site)
        assert physical is not None
        record = np.zeros(1, layout.RECORD)
        record["id"], record["site"], record["site_physical"] = header.next_id, plan.site, physical
        record["original"], record["splice"] = plan.original, plan.splice
        record["body"], record["body_size"] = plan.body, len(plan.code)
        record["constant_size"], record["counted"] = plan.constant_size, plan.counted
        record["glue_words"] = plan.body_words
        record["springboard"] = plan.springboard or 0
        record["crc"] = _crc(plan.code[: plan.constant_size], plan.springboard_code)
        record["guard_start"], record["guard_end"] = plan.guard
        record["created"] = int(time.time())
        at = self._slot(arena, slot)
        body = self._inside(arena, plan.body)
        commands = _mapping(arena, header.bat)
        commands.append(Command(Op.FLUSH, body, len(plan.code)))
        if plan.springboard is not None:
            commands.append(
                Command(Op.FLUSH, self._springboard(arena, plan.springboard), len(plan.springboard_code))
            )
        commands += [
            Command(Op.STORE, arena.physical + _offset("next_id", layout.HEADER), header.next_id + 1),
            Command(Op.STORE, at, State.PENDING),
            Command(Op.SPLICE, physical, plan.original, plan.splice),
            Command(Op.STORE, at, State.ACTIVE),
        ]
        with self.stop(arena) as stop:
            stop.write(body, plan.code)
            if plan.springboard is not None:
                stop.write(self._springboard(arena, plan.springboard), plan.springboard_code)
            stop.write(at, record.tobytes())
            try:
                stop.call(commands)
            except StubFailed as error:
                stop.call([Command(Op.STORE, at, State.FREE)])
                raise _refusal(error, plan.site, plan.original) from error
        return header.next_id

    def _slot(self, arena: ArenaPlan, slot: int) -> int:
        return arena.physical + layout.TABLE_OFFSET + slot * layout.RECORD.itemsize

    def remove(self, header: Header, records: Sequence[Record]) -> list[int]:
        """Take patches out, in one stop; return the ids whose memory is still referenced (retired).

        Retired patches of earlier removals are collected on the way. Raises `Refused` (rule
        ``expected``) when a site holds neither the splice nor the original word.
        """
        arena = header.arena
        with self.stop(arena) as stop:
            for start in range(0, len(records), layout.MAX_COMMANDS // 2):
                commands = []
                for record in records[start : start + layout.MAX_COMMANDS // 2]:
                    if record.spliced:
                        commands.append(
                            Command(Op.SPLICE, record.site_physical, record.splice, record.original)
                        )
                    if record.state is not State.RETIRED:
                        commands.append(Command(Op.STORE, self._slot(arena, record.slot), State.RETIRED))
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
        arena = header.arena
        retired = [record for record in self.records(arena) if record.state is State.RETIRED]
        if not retired:
            return []
        pinned = {record.slot for record in retired if record.counted and _inside_now(record)}
        ranges = {record.slot: _unguarded(record) for record in retired if record.slot not in pinned}
        counters = stop.program_counters()
        skip = (arena.physical, arena.physical + arena.size)
        held = [pc for _, pc in interrupted_contexts(self._memory(skip), [r for rs in ranges.values() for r in rs])]
        for slot, pieces in ranges.items():
            if any(low <= pc < high for low, high in pieces for pc in (*counters, *held)):
                pinned.add(slot)
        commands = [
            Command(Op.STORE, self._slot(arena, record.slot), State.FREE)
            for record in retired
            if record.slot not in pinned
        ]
        for start in range(0, len(commands), layout.MAX_COMMANDS):
            stop.call(commands[start : start + layout.MAX_COMMANDS])
        return [record.id for record in retired if record.slot in pinned]

    def _memory(self, skip: tuple[int, int]) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        ram = self._qemu.ram
        for start, end in ((0, skip[0]), (skip[1], ram.size)):
            if start < end:
                yield start, ram.array(start, end - start)


def _inside_now(record: Record) -> bool:
    return record.guard[1] > 0 and record.hits != record.exits


def _unguarded(record: Record) -> list[tuple[int, int]]:
    """Return the code ranges of a patch in which a thread is found by its interrupted pc alone."""
    start, end = (record.body + 4 * index for index in record.guard)
    pieces = [(record.body, start), (end, record.body + 4 * record.glue_words)]
    if record.springboard is not None:
        pieces.append((record.springboard, record.springboard + layout.SPRINGBOARD_SIZE))
    return [(low, high) for low, high in pieces if low < high]


def _refusal(error: StubFailed, site: int, expected: int) -> Exception:
    if error.op is not Op.SPLICE:
        return error
    return Refused(
        "expected",
        f"the word at 0x{site:08x} is 0x{error.result:08x}, not 0x{expected:08x} as expected; nothing was changed",
        site,
    )


def _crc(code: bytes, springboard: bytes) -> int:
    return zlib.crc32(springboard, zlib.crc32(code))


def _offset(name: str, dtype: np.dtype[np.void] = layout.RECORD) -> int:
    fields = dtype.fields
    assert fields is not None
    return int(fields[name][1])


def _mapping(arena: ArenaPlan, bat: int) -> list[Command]:
    """Return the commands that map the arena (BAT, PEM 7.4) and its springboard page (PTE, PEM 7.6)."""
    supervisor, memory_coherent, read_write = 2, 0x10, 2
    upper = arena.virtual | (arena.size // 0x20000 - 1) << 2 | supervisor
    commands = [Command(Op.BAT, bat, upper, arena.physical | memory_coherent | read_write)]
    if arena.springboards is not None:
        referenced_changed = 0x180
        page = arena.physical + layout.SPRINGBOARD_OFFSET
        commands.append(
            Command(Op.MAP, arena.springboards.start, page | referenced_changed | memory_coherent | read_write)
        )
    return commands
