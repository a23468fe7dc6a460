"""Read the arena: header, patch table, free places; without stopping the guest.

The table in the guest is the only truth; a client keeps nothing of it between operations.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.component.layout import NO_ENTRY, BlockEntries, Flushed, Linear, State
from kgdbpatch.component.modules import Known, Loaded, known
from kgdbpatch.component.table import Record, Table
from kgdbpatch.errors import ComponentDamaged, Outdated
from kgdbpatch.isa import encode
from kgdbpatch.patch.once import AREA
from kgdbpatch.patch.trap import Hook
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.allocate import Allocator
    from kgdbpatch.variables import Note

__all__ = ["Arena", "Header", "checksum", "field_offset", "header_checksum"]


class Header(NamedTuple):
    """The arena's header: its place, the mapping in use and the identity of the patched kernel."""

    arena: ArenaPlan
    entries: tuple[BlockEntries, ...]  # of the arena, and of its near window where there is one
    next_id: int
    slots: int  # of the table, up to the last one ever used
    hook: Hook | None  # of the program exception, while patches are entered by traps
    image_sha256: str
    baseline: dict[int, int]  # address ─► word, where the running kernel differs from its image


def checksum(code: bytes, springboard: bytes) -> int:
    """Return the CRC-32 of a patch's code and its springboard's."""
    return zlib.crc32(springboard, zlib.crc32(code))


def header_checksum(header: bytes, baseline: bytes) -> int:
    """Return the CRC-32 of what stays as it is, of the header and of the baseline."""
    raw = np.frombuffer(header, layout.HEADER).copy()
    for name in layout.CHANGING:
        raw[name] = np.zeros((), layout.HEADER[name])
    return zlib.crc32(baseline, zlib.crc32(raw.tobytes()))


def _hook(raw: np.void) -> Hook | None:
    names = ("vector", "original", "at", "shift", "scratch", "size")
    vector, original, at, shift, scratch, size = (int(raw[f"hook_{name}"]) for name in names)
    table = int(raw["virtual" if scratch else "physical"]) + layout.TRAPS_OFFSET
    return Hook(vector, original, at, shift, table, scratch, size) if at else None


def _entries(raw: np.void, prefix: str) -> BlockEntries:
    instruction, data = int(raw[f"{prefix}code_entry"]), int(raw[f"{prefix}data_entry"])
    return BlockEntries(None if instruction == NO_ENTRY else instruction, None if data == NO_ENTRY else data)


def field_offset(name: str, dtype: np.dtype[np.void]) -> int:
    """Return a field's offset in a structure of layout.py, bytes."""
    fields = dtype.fields
    assert fields is not None
    return int(fields[name][1])


def _word(header: bytes, name: str) -> int:
    at = field_offset(name, layout.HEADER)
    return int.from_bytes(header[at : at + 4], "big")


@lru_cache(maxsize=8)
def _header(data: bytes, baseline: bytes) -> Header:
    raw, own = np.frombuffer(data, layout.HEADER)[0], np.frombuffer(baseline, layout.BASELINE)
    springboards = Window(int(raw["springboards"]), int(raw["springboards_end"]))
    tails = Window(int(raw["tails"]), int(raw["tails_end"]))
    near = Window(int(raw["near"]), int(raw["near"]) + int(raw["near_size"]))
    entries = (_entries(raw, ""), *([_entries(raw, "near_")] if near.end else []))
    return Header(
        arena=ArenaPlan(
            int(raw["physical"]),
            int(raw["size"]),
            int(raw["virtual"]),
            springboards if springboards.end else None,
            near if near.end else None,
            tails if tails.end else None,
            paged=any(pair.data is None for pair in entries[int(raw["linear"]) == Linear.BLOCK :]),
            linear=bool(raw["linear"]),
        ),
        entries=entries,
        next_id=int(raw["next_id"]),
        slots=int(raw["slots"]),
        hook=_hook(raw),
        image_sha256=bytes(raw["image_sha256"]).hex(),
        baseline=dict(zip(own["address"].tolist(), own["word"].tolist(), strict=True)),
    )


class Arena:
    """The arena that ``plan`` describes, read through the guest's mapped RAM.

    ``loaded`` returns the modules that the kernel has now.
    """

    def __init__(self, ram: Readable, plan: ArenaPlan, loaded: Loaded = frozenset) -> None:
        self._ram, self.plan, self._loaded = ram, plan, loaded

    @classmethod
    def header(cls, ram: Readable, physical: int) -> Header | None:
        """Return the header of the arena at ``physical``, or None when nothing is installed there.

        Raises `ComponentDamaged` when something has written to it.
        """
        if physical + layout.HEADER.itemsize > ram.size:
            return None
        raw = ram.read(physical, layout.HEADER.itemsize)
        if not raw.startswith(layout.MAGIC):
            return None
        version, count = (_word(raw, name) for name in ("version", "baseline_count"))
        if version != layout.VERSION:
            raise ComponentDamaged(
                f"its kernel component has version {version}, not {layout.VERSION}: another kgdbpatch booted "
                "it, or it was overwritten"
            )
        if count <= layout.BASELINE_ENTRIES and _word(raw, "slots") <= layout.records(_word(raw, "size")):
            baseline = ram.read(physical + layout.BASELINE_OFFSET, count * layout.BASELINE.itemsize)
            if _word(raw, "crc") == header_checksum(raw, baseline):
                return _header(raw, baseline)
        raise ComponentDamaged("its kernel component's memory was overwritten; boot it again")

    def slot(self, number: int) -> int:
        """Return the physical address of a table entry."""
        return self.plan.physical + layout.TABLE_OFFSET + number * layout.RECORD.itemsize

    def inside(self, virtual: int) -> int:
        """Return the physical address of a virtual one in the arena or its near window."""
        near = self.plan.near
        if near is not None and near.start <= virtual < near.end:
            virtual -= self.plan.near_shift
        return virtual - self.plan.virtual + self.plan.physical

    def springboard(self, virtual: int) -> int:
        """Return the physical address of a springboard."""
        if self.in_tails(virtual):
            assert self.plan.tails is not None
            return virtual - self.plan.tails.start
        assert self.plan.springboards is not None
        return self.plan.physical + layout.SPRINGBOARD_OFFSET + virtual - self.plan.springboards.start

    def in_tails(self, springboard: int | None) -> bool:
        """Tell whether a springboard lies in the tail of an exception vector."""
        tails = self.plan.tails
        return springboard is not None and tails is not None and tails.start <= springboard < tails.end

    def tail_words(self, records: npt.NDArray[np.void]) -> list[int]:
        """Return the physical addresses of the words of the records' springboards in vector tails."""
        return [
            self.springboard(board) + offset
            for board, slots in records[["springboard", "springboard_slots"]].tolist()
            if self.in_tails(board)
            for offset in range(0, slots * layout.SPRINGBOARD_SIZE, 4)
        ]

    def basis(self) -> bytes:
        """Return all that plans are made from, less what patches count: header, records, trapped sites.

        And which of the modules that have patches are loaded no more.
        """
        physical = self.plan.physical
        header = self._ram.read(physical, layout.HEADER.itemsize)
        count = _word(header, "slots")
        records = self._ram.array(self.slot(0), count * layout.RECORD.itemsize).view(">u4")
        counters = [field_offset(name, layout.RECORD) // 4 for name in ("hits", "exits")]
        kept = np.delete(records.reshape(count, layout.RECORD.itemsize // 4), counters, axis=1)
        size = layout.TRAP_ENTRIES * layout.TRAP.itemsize
        traps = self._ram.read(physical + layout.TRAPS_OFFSET, size)
        gone = self._modules(records.view(layout.RECORD)).gone
        return header + kept.tobytes() + traps + bytes(sorted(gone))

    def _modules(self, records: npt.NDArray[np.void]) -> Known:
        return known(self._ram, self.plan, records[records["state"] != State.FREE], self._loaded)

    def check(self, basis: bytes) -> None:
        """Raise `Outdated` unless plans made from ``basis`` are good; the guest is stopped."""
        if self.basis() != basis:
            raise Outdated("the patch table was changed by a client that died; what was planned is outdated")

    def table(self, start: int = 0, end: int = 1 << 32) -> Table:
        """Return the table's used entries with sites in ``[start, end)``."""
        live = self._live
        wanted = live["state"] != State.FREE
        if (start, end) != (0, 1 << 32):
            sites = live["site"].astype(np.int64)
            wanted &= (sites >= start) & (sites < end)
        slots = np.flatnonzero(wanted)
        raw = live[slots]  # a copy: the guest goes on counting
        words = self._words(raw["site_physical"].astype(np.int64))
        return Table(raw, slots, words, self._modules(raw))

    @property
    def any_retired(self) -> bool:
        """Whether the table has retired entries."""
        return bool((self._live["state"] == State.RETIRED).any())

    @property
    def _live(self) -> npt.NDArray[np.void]:
        """The table's records, used or not, as the guest has them: hits are counted on."""
        at = self.plan.physical + field_offset("slots", layout.HEADER)
        count = int.from_bytes(self._ram.read(at, 4), "big")
        return self._ram.array(self.slot(0), count * layout.RECORD.itemsize).view(layout.RECORD)

    def _words(self, physical: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        if physical.size and int(physical.max()) + 4 > self._ram.size:
            raise ComponentDamaged("the guest's patch table is damaged: a site lies outside its memory")
        first, last = (int(physical.min()), int(physical.max())) if physical.size else (0, 0)
        memory = self._ram.array(first, last + 4 - first).view(">u4")
        return memory[(physical - first) // 4].astype(np.uint32)

    def records(self, start: int = 0, end: int = 1 << 32) -> list[Record]:
        """Return the table's used entries with sites in ``[start, end)``, in the order of their ids."""
        return self.table(start, end).records()

    def allocator(self, springboards: Sequence[int] | None = None) -> Allocator:
        """Return an allocator of what the table leaves free now, and of ``springboards`` if given."""
        from kgdbpatch.component.allocate import Allocator  # on use: it is for those who plan

        return Allocator(self.plan, self.table(), field_offset("hits", layout.RECORD), springboards)

    def springboard_code(self, springboard: int | None, slots: int) -> bytes:
        """Return the code of a springboard of so many slots, none for None."""
        if not springboard:
            return b""
        return self._ram.read(self.springboard(springboard), slots * layout.SPRINGBOARD_SIZE)

    def watched_blocks(self) -> str:
        """Tell how many of the blocks that are watched were run."""
        from kgdbpatch.component.watched import watched  # on use: few guests have any

        found = watched(self._ram, self)
        return "" if found is None else found.told

    def onward(self, record: Record) -> tuple[int, int]:
        """Return where a patch over an older one of its site goes on to, and whether it links (1 or 0)."""
        at = record.body + 4 * record.onward
        word = int.from_bytes(self._ram.read(self.inside(at), 4), "big")
        target = encode.branch_target(at, word)
        if target is None:
            raise ComponentDamaged(f"the body of patch {record.id} is damaged: it has lost its way on")
        return target, word & 1

    def note(self, record: Record) -> tuple[int, Note] | None:
        """Return where a patch's payload begins, and what is kept of its names; None where nothing is.

        Raises `ComponentDamaged` when that was overwritten.
        """
        if not record.noted:
            return None
        from kgdbpatch.variables import unframed, unpack  # on use: most commands read no notes

        start, end = record.body, record.body + record.body_size - (AREA if record.guarded else 0)
        try:
            offset, packed = unframed(self._ram.read(self.inside(start), max(end - start, 0)))
            return start + offset, unpack(packed)
        except ComponentDamaged as error:
            raise ComponentDamaged(f"patch {record.id}: {error}") from error

    def read(self, virtual: int, size: int) -> bytes:
        """Return bytes of a patch's body as they are now."""
        return self._ram.read(self.inside(virtual), size)

    def skipped(self, record: Record) -> int | None:
        """Return how often a thread inside a patch's payload passed its site, None for one not guarded."""
        if not record.guarded:
            return None
        at = self.inside(record.body + record.body_size) - 4  # patch/once.py
        return int.from_bytes(self._ram.read(at, 4), "big")

    def damaged_bodies(self, table: Table) -> list[int]:
        """Return the sites of those patches whose code (body and springboard) is not as it was written."""
        names, found = ["site", "body", "constant_size", "springboard", "springboard_slots", "crc"], []
        for site, body, size, board, slots, crc in table.raw[names].tolist():
            code = self._ram.read(self.inside(body), size)
            if crc != checksum(code, self.springboard_code(board, slots)):
                found.append(site)
        return found

    @property
    def flush_count(self) -> int:
        """How many flushes the stub ever noted in its journal."""
        at = self.plan.physical + layout.JOURNAL_COUNT_OFFSET
        return int.from_bytes(self._ram.read(at, 4), "big")

    def flushes(self, since: int) -> list[tuple[Flushed, int, int]]:
        """Return the flushes from number ``since`` on as (cache, physical start, end), oldest first.

        Raises `LookupError` when the journal has dropped some of them.
        """
        count = self.flush_count
        if count - since > layout.JOURNAL_ENTRIES:
            raise LookupError(f"the journal has dropped {count - since - layout.JOURNAL_ENTRIES} entries")
        size = layout.JOURNAL_ENTRIES * layout.JOURNAL.itemsize
        raw = np.frombuffer(self._ram.read(self.plan.physical + layout.JOURNAL_OFFSET, size), layout.JOURNAL)
        kept = raw[np.arange(since, count) % layout.JOURNAL_ENTRIES]
        starts, ends = kept["start"].tolist(), kept["end"].tolist()
        mask = int(Flushed.DATA | Flushed.CODE)
        return [(Flushed(start & mask), start & ~mask, end) for start, end in zip(starts, ends, strict=True)]

    def used(self) -> int:
        """Return how many bytes hold patch bodies."""
        return int(self.table().raw["body_size"].sum())
