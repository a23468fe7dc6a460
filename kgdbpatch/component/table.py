"""The patch table as arrays: many records at once; a `Record` is made of one where it is wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Flag, State
from kgdbpatch.component.modules import Known
from kgdbpatch.patch.planned import UPDATE
from kgdbpatch.patch.site import FORCEABLE
from kgdbpatch.patch.trap import TWI, is_trap
from kgdbpatch.patch.watch import COUNTS, WATCH
from kgdbpatch.results import PatchState

__all__ = ["STATES", "Record", "Table", "forced_flags", "runs"]

STATES = (
    PatchState.UNFINISHED,
    PatchState.ACTIVE,
    PatchState.RETIRED,
    PatchState.DAMAGED,
    PatchState.UNLOADED,
)
assert Flag.FORCED << len(FORCEABLE) <= Flag.USES, "a bit for each rule"
_COVERAGE = {WATCH: "once", COUNTS: "exact"}
_EXITS = Flag.COUNTED | Flag.REPLACES
_UNFINISHED, _ACTIVE, _RETIRED, _DAMAGED, _UNLOADED = range(5)


def forced_flags(rules: Collection[str]) -> int:
    """Return the flags (layout.Flag) that tell of rules of `FORCEABLE`."""
    return sum(Flag.FORCED << bit for bit, rule in enumerate(FORCEABLE) if rule in rules)


class Record(NamedTuple):
    """One entry of the patch table.

    Unfinished: its apply was cut off before the splice. Retired: removed, but something
    still refers to its memory. Damaged: the site holds neither of its two words. Unloaded: the module that
    it was in is loaded no more, or again.
    """

    slot: int
    id: int
    state: PatchState
    site: int
    site_physical: int
    original: int
    splice: int
    body: int
    body_size: int
    constant_size: int
    springboard: int | None
    springboard_slots: int
    hits: int
    counted: bool
    forced: tuple[str, ...]  # the rules that it goes against
    tail: int
    onward: int
    calls: bool  # its payload calls code of the kernel's
    module: str | None  # that the site is in
    guarded: bool  # a thread inside the payload passes the site without it
    data: bool = False  # the site is a word of data, no code
    update: bool = False  # it is the first patch of an update
    noted: bool = False  # behind the payload stands what is kept of its names
    uses: bool = False  # its payload was linked against names of other patches
    coverage: str | None = None  # it is (part of) the coverage that is taken: ``once`` or ``exact``
    exits: int | None = None  # how many of the calls that it counts have returned; None: not for exits

    @property
    def entry(self) -> str:
        """How the site leads to the body: ``branch``, ``springboard`` or ``trap``; ``data`` leads nowhere."""
        if self.data:
            return "data"
        return "trap" if is_trap(self.splice) else "springboard" if self.springboard else "branch"

    @property
    def spliced(self) -> bool:
        """Whether the site leads to this patch, at once or by way of newer patches."""
        return self.state is PatchState.ACTIVE


class Table:
    """The used entries of the patch table, as they were at one moment.

    ``raw`` are the records (layout.RECORD), ``slots`` their numbers, ``words`` what their sites
    hold, ``states`` indices into `STATES`; all of one length, in the order of slots. ``modules`` are those
    that sites are in.
    """

    def __init__(
        self,
        raw: npt.NDArray[np.void],
        slots: npt.NDArray[np.int64],
        words: npt.NDArray[np.uint32],
        modules: Known | None = None,
    ) -> None:
        self.raw, self.slots, self.words = raw, slots, words
        self._modules = modules or Known()
        gone = [raw["module"] == number for number in self._modules.gone]
        self._gone = np.logical_or.reduce(gone) if gone else np.zeros(len(raw), np.bool_)
        self.states = self._states_of_all()

    def __len__(self) -> int:
        return len(self.slots)

    def same(self, other: Table) -> bool:
        """Tell whether the same patches are in as in ``other``, wherever their counters are by now."""
        if len(self) != len(other) or not (self.words == other.words).all():
            return False
        names = [name for name in self.raw.dtype.names or () if name not in ("hits", "exits")]
        return all(np.array_equal(self.raw[name], other.raw[name]) for name in names)

    def _states_of_all(self) -> npt.NDArray[np.uint8]:
        splice, original = self.raw["splice"], self.raw["original"]
        states = np.full(len(self), _DAMAGED, np.uint8)
        states[self.words == original] = _UNFINISHED
        states[self.words == splice] = _ACTIVE
        again = (self.raw["module"] > 0) & (self.raw["state"] == State.ACTIVE) & (self.words == original)
        states[again | self._gone] = _UNLOADED
        states[self.raw["state"] == State.RETIRED] = _RETIRED
        for layers in self.layers():
            self._judge_layers(layers, states)
        return states

    def layers(self) -> list[list[int]]:
        """Return the indexes of patches not retired that share a site, newest first."""
        live = np.flatnonzero((self.raw["state"] != State.RETIRED) & ~self._gone)
        if live.size < 2:
            return []
        _, group, count = np.unique(self.raw["site"][live], return_inverse=True, return_counts=True)
        members = [live[group == number].tolist() for number in np.flatnonzero(count > 1)]
        return [sorted(layers, key=lambda index: -int(self.raw["id"][index])) for layers in members]

    def _judge_layers(self, layers: list[int], states: npt.NDArray[np.uint8]) -> None:
        """Follow the words from the site down: each patch was put over what the next one left.

        One that was spliced and whose site holds the original word is of a module that was loaded again
        at the same place. So are those above it that are not in.
        """
        word = int(self.words[layers[0]])
        for index in layers:
            splice, original = (int(self.raw[name][index]) for name in ("splice", "original"))
            if word == splice:
                states[index] = _ACTIVE
                word = original
            else:
                states[index] = _UNFINISHED if word == original else _DAMAGED
                if (
                    word == original
                    and self.raw["module"][index]
                    and self.raw["state"][index] == State.ACTIVE
                ):
                    above = layers[: layers.index(index) + 1]
                    states[[other for other in above if states[other] != _ACTIVE]] = _UNLOADED

    def originals(self) -> dict[int, int]:
        """Return site ─► the kernel's own word, for every site that a patch is spliced at."""
        active = np.flatnonzero(self.states == _ACTIVE)
        newest_first = active[np.argsort(-self.raw["id"][active].astype(np.int64))]
        sites, words = self.raw["site"][newest_first], self.raw["original"][newest_first]
        return dict(zip(sites.tolist(), words.tolist(), strict=True))  # the oldest wins

    def tops(self) -> dict[int, int]:
        """Return site ─► the splice word that stands there, of the kernel itself."""
        active = (self.states == _ACTIVE) & (self.words == self.raw["splice"]) & (self.raw["module"] == 0)
        active &= self.raw["glue_words"] > 0
        return dict(zip(self.raw["site"][active].tolist(), self.words[active].tolist(), strict=True))

    def trapped(self) -> npt.NDArray[np.bool_]:
        """Tell of each entry whether a trap leads to its body."""
        traps: npt.NDArray[np.bool_] = (self.raw["glue_words"] > 0) & (self.raw["splice"] >> 26 == TWI)
        return traps

    def returned_to(self, chosen: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return the (start, end) of those bodies that threads come back to by return addresses."""
        raw = self.raw[chosen & (self.raw["flags"] & (Flag.REPLACES | Flag.CALLED) > 0)]
        start = raw["body"].astype(np.int64)
        return list(zip(start.tolist(), (start + raw["constant_size"]).tolist(), strict=True))

    def entered(self) -> npt.NDArray[np.bool_]:
        """Tell of each entry whether a thread is between its entry and its exit counter."""
        inside: npt.NDArray[np.bool_] = (self.raw["guard_end"] > 0) & (self.raw["hits"] != self.raw["exits"])
        return inside

    def unguarded(self, chosen: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """Return (start, end, index) of the code in which a thread is found by its interrupted pc alone.

        Without a guard the payload calls nothing of the kernel: its own functions are of it.
        """
        raw = self.raw[chosen]
        body = raw["body"].astype(np.int64)
        before, behind, end = (body + 4 * raw[name] for name in ("guard_start", "guard_end", "glue_words"))
        alone = (raw["guard_end"] > 0) & (raw["flags"] & Flag.CALLED == 0)
        end = np.where(alone, end, body + raw["constant_size"])
        board = raw["springboard"].astype(np.int64)
        board_end = board + layout.SPRINGBOARD_SIZE * raw["springboard_slots"].astype(np.int64)
        starts = np.concatenate([body, behind, board])
        ends = np.concatenate([before, end, board_end])
        index = np.concatenate([chosen] * 3)
        real = starts < ends
        return starts[real], ends[real], index[real]

    def select(self, wanted: npt.NDArray[np.bool_]) -> Table:
        """Return the entries of which ``wanted`` is true; layers are judged again by what is left."""
        return Table(self.raw[wanted], self.slots[wanted], self.words[wanted], self._modules)

    def record(self, index: int) -> Record:
        """Return one entry."""
        raw = self.raw[index]
        flags = int(raw["flags"])
        return Record(
            slot=int(self.slots[index]),
            id=int(raw["id"]),
            state=STATES[self.states[index]],
            site=int(raw["site"]),
            site_physical=int(raw["site_physical"]),
            original=int(raw["original"]),
            splice=int(raw["splice"]),
            body=int(raw["body"]),
            body_size=int(raw["body_size"]),
            constant_size=int(raw["constant_size"]),
            springboard=int(raw["springboard"]) or None,
            springboard_slots=int(raw["springboard_slots"]),
            hits=int(raw["hits"]),
            counted=bool(flags & Flag.COUNTED),
            forced=tuple(rule for bit, rule in enumerate(FORCEABLE) if flags & Flag.FORCED << bit),
            tail=int(raw["tail"]),
            onward=int(raw["tail"]) if flags & Flag.ONWARD else 0,
            calls=bool(raw["guard_end"]),
            module=self._modules.names.get(int(raw["module"])),
            guarded=bool(flags & Flag.GUARDED),
            data=not raw["glue_words"],
            update=(int(raw["guard_start"]), int(raw["guard_end"])) == UPDATE,
            noted=bool(flags & Flag.NOTED),
            uses=bool(flags & Flag.USES),
            coverage=_COVERAGE.get((int(raw["guard_start"]), int(raw["guard_end"]))),
            exits=int(raw["exits"]) if flags & _EXITS == _EXITS else None,
        )

    def records(self) -> list[Record]:
        """Return all entries in the order of their ids."""
        return [self.record(index) for index in np.argsort(self.raw["id"], kind="stable").tolist()]


def runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of the runs of consecutive numbers in ascending ``slots``."""
    start = 0
    for index in range(1, len(slots) + 1):
        if index == len(slots) or slots[index] != slots[index - 1] + 1:
            yield slots[start], index - start
            start = index
