"""Read the arena: header, patch table, free places; without stopping the guest.

The table in the guest is the only truth; a client keeps nothing of it between operations.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.layout import State
from kgdbpatch.errors import Refused, TargetLost
from kgdbpatch.guests.profile import ArenaPlan, Window
from kgdbpatch.patch.plan import Place
from kgdbpatch.target.qemu import Ram

__all__ = ["Arena", "Header", "Record", "checksum", "field_offset"]


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
    springboard_slots: int
    crc: int
    hits: int
    exits: int
    guard: tuple[int, int]
    glue_words: int
    counted: bool
    word: int  # at the site

    @property
    def status(self) -> str:
        """Return ``active``, ``unfinished``, ``retired`` or ``damaged``.

        Unfinished: its apply was cut off before the splice. Retired: removed, but something
        still refers to its memory. Damaged: the site holds neither of its two words.
        """
        if self.state is State.RETIRED:
            return "retired"
        if self.word == self.splice:
            return "active"
        return "unfinished" if self.word == self.original else "damaged"

    @property
    def spliced(self) -> bool:
        """Whether the site holds the splice word."""
        return self.status == "active"

    @property
    def entered(self) -> bool:
        """Whether a thread is between the entry and the exit counter."""
        return self.guard[1] > 0 and self.hits != self.exits

    @property
    def springboard_size(self) -> int:
        """Return the bytes that the springboard's slots take."""
        return self.springboard_slots * layout.SPRINGBOARD_SIZE

    @property
    def unguarded(self) -> list[tuple[int, int]]:
        """Return the code ranges in which a thread is found by its interrupted pc alone.

        Without a guard the payload calls nothing of the kernel: its own functions are of them.
        """
        start, end = (self.body + 4 * index for index in self.guard)
        glue = 4 * self.glue_words if self.guard[1] else self.constant_size
        pieces = [(self.body, start), (end, self.body + glue)]
        if self.springboard is not None:
            pieces.append((self.springboard, self.springboard + self.springboard_size))
        return [(low, high) for low, high in pieces if low < high]


@dataclass(frozen=True, slots=True)
class Header:
    """The arena's header: its place, the mapping in use and the identity of the patched kernel."""

    arena: ArenaPlan
    bat: int
    next_id: int
    image_sha256: str
    baseline: dict[int, int]  # address ─► word, where the running kernel differs from its image


def checksum(code: bytes, springboard: bytes) -> int:
    """Return the CRC-32 of a patch's code and its springboard's."""
    return zlib.crc32(springboard, zlib.crc32(code))


def field_offset(name: str, dtype: np.dtype[np.void]) -> int:
    """Return a field's offset in a structure of layout.py, bytes."""
    fields = dtype.fields
    assert fields is not None
    return int(fields[name][1])


class Arena:
    """The arena that ``plan`` describes, read through the guest's mapped RAM."""

    def __init__(self, ram: Ram, plan: ArenaPlan) -> None:
        self._ram, self.plan = ram, plan

    @classmethod
    def header(cls, ram: Ram, physical: int) -> Header | None:
        """Return the header of the arena at ``physical``, or None when nothing is installed there."""
        raw = np.frombuffer(ram.read(physical, layout.HEADER.itemsize), layout.HEADER)[0]
        if bytes(raw["magic"]) != layout.MAGIC:
            return None
        version = int(raw["version"])
        if version != layout.VERSION:
            raise TargetLost(f"the guest's kernel component has version {version}, not {layout.VERSION}")
        count = int(raw["baseline_count"])
        entries = np.frombuffer(
            ram.read(physical + layout.BASELINE_OFFSET, count * layout.BASELINE.itemsize), layout.BASELINE
        )
        window = Window(int(raw["springboards"]), int(raw["springboards_end"]))
        return Header(
            arena=ArenaPlan(
                int(raw["physical"]), int(raw["size"]), int(raw["virtual"]), window if window.end else None
            ),
            bat=int(raw["bat"]),
            next_id=int(raw["next_id"]),
            image_sha256=bytes(raw["image_sha256"]).hex(),
            baseline=dict(zip(entries["address"].tolist(), entries["word"].tolist(), strict=True)),
        )

    def slot(self, number: int) -> int:
        """Return the physical address of a table entry."""
        return self.plan.physical + layout.TABLE_OFFSET + number * layout.RECORD.itemsize

    def inside(self, virtual: int) -> int:
        """Return the physical address of a virtual one in the arena."""
        return virtual - self.plan.virtual + self.plan.physical

    def springboard(self, virtual: int) -> int:
        """Return the physical address of a springboard."""
        assert self.plan.springboards is not None
        return self.plan.physical + layout.SPRINGBOARD_OFFSET + virtual - self.plan.springboards.start

    def records(self, start: int = 0, end: int = 1 << 32) -> list[Record]:
        """Return the table's used entries with sites in ``[start, end)``, in the order of their ids."""
        table = self._ram.read(self.slot(0), layout.RECORDS * layout.RECORD.itemsize)
        raw = np.frombuffer(table, layout.RECORD)
        raw_sites = raw["site"].astype(np.int64)
        wanted = (raw["state"] != State.FREE) & (raw_sites >= start) & (raw_sites < end)
        records = [self._record(raw[slot], int(slot)) for slot in np.flatnonzero(wanted)]
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
            springboard_slots=int(raw["springboard_slots"]),
            crc=int(raw["crc"]),
            hits=int(raw["hits"]),
            exits=int(raw["exits"]),
            guard=(int(raw["guard_start"]), int(raw["guard_end"])),
            glue_words=int(raw["glue_words"]),
            counted=bool(raw["counted"]),
            word=int.from_bytes(self._ram.read(site_physical, 4), "big"),
        )

    def intact(self, record: Record) -> bool:
        """Tell whether the code of a patch (body and springboard) is as it was written."""
        springboard = b""
        if record.springboard is not None:
            springboard = self._ram.read(self.springboard(record.springboard), record.springboard_size)
        return record.crc == checksum(
            self._ram.read(self.inside(record.body), record.constant_size), springboard
        )

    def used(self) -> int:
        """Return how many bytes hold patch bodies."""
        return sum(record.body_size for record in self.records())

    def place(self, size: int, springboard_size: int = layout.SPRINGBOARD_SIZE) -> tuple[int, Place]:
        """Return a free table slot and a place for a body of ``size`` bytes; nothing is reserved.

        The place's springboard has room for ``springboard_size`` bytes. Raises `Refused` (rule
        ``memory``) when the arena or the table is full.
        """
        records = self.records()
        used = {record.slot for record in records}
        slot = next((number for number in range(layout.RECORDS) if number not in used), None)
        if slot is None:
            raise Refused("memory", f"the patch table is full ({layout.RECORDS} patches)")
        body = self._gap(records, size)
        counter = self.slot(slot) - self.plan.physical + field_offset("hits", layout.RECORD)
        springboard = self._free_springboard(records, springboard_size or layout.SPRINGBOARD_SIZE)
        return slot, Place(body, springboard, self.plan.virtual + counter)

    def _free_springboard(self, records: Sequence[Record], size: int) -> int | None:
        """Return the lowest of adjacent free springboard slots for ``size`` bytes, or None."""
        window = self.plan.springboards
        if window is None:
            return None
        held = {
            address
            for record in records
            if record.springboard is not None
            for address in range(
                record.springboard, record.springboard + record.springboard_size, layout.SPRINGBOARD_SIZE
            )
        }
        for start in range(window.start, window.end - size + 1, layout.SPRINGBOARD_SIZE):
            if held.isdisjoint(range(start, start + size, layout.SPRINGBOARD_SIZE)):
                return start
        return None

    def _gap(self, records: Sequence[Record], size: int) -> int:
        """Return the lowest free address for ``size`` bytes, on a cache line of its own."""
        start = self.plan.virtual + layout.BODIES_OFFSET
        for low, high in sorted((record.body, record.body + record.body_size) for record in records):
            if start + size <= low:
                break
            start = max(start, -(-high // layout.LINE) * layout.LINE)
        if start + size > self.plan.virtual + self.plan.size:
            raise Refused("memory", f"the arena has no room for {size} more bytes")
        return start
