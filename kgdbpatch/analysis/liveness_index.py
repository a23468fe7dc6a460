"""Answer for one site what the analysis of the whole program has found: plain arrays, easily kept."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.arrays import Grouped
from kgdbpatch.analysis.effects import may_fault, words_of
from kgdbpatch.analysis.reach import Reach
from kgdbpatch.analysis.regset import ALWAYS, RegSet
from kgdbpatch.isa.decode import Decoded, decode_array
from kgdbpatch.isa.fields import Words

if TYPE_CHECKING:
    from kgdbpatch.analysis.interprocedural import BlockLiveness, ProgramLiveness

__all__ = ["LivenessIndex"]

Array = npt.NDArray[Any]
_TOGETHER = 64  # blocks decoded at once


class LivenessIndex:
    """The live registers at any instruction of the functions of one program.

    ``arrays`` holds, per block: ``start`` and ``end`` (address of the first and last instruction),
    ``before``, ``reads`` and ``keeps`` (of the call at its end), ``leaves`` (what its exits
    read), ``fall`` and ``taken`` (block or -1), ``reach`` (`Reach`); and the edges ``more`` and
    ``implicit`` as pairs. ``read_at`` and ``read`` say which instructions read more than their words do,
    ``fixups`` what those that may fault do, by block; it is empty where their edges are known. ``final``:
    where functions begin that never return.
    """

    def __init__(self, arrays: Mapping[str, Array], model: str = "") -> None:
        self.arrays, self._model = dict(arrays), model
        self.together = _TOGETHER
        self._known: dict[int, tuple[list[int], list[int]]] = {}
        self._firsts: list[int] = []  # blocks with which pieces begin
        self._lasts: list[int] = []
        self._pieces: list[tuple[int, Array, Array]] = []

    @classmethod
    def of(cls, liveness: ProgramLiveness, found: BlockLiveness) -> LivenessIndex:
        """Keep of an analysis what answers for sites."""
        blocks, program = liveness.blocks, liveness.program
        reads, keeps = liveness.calls()
        return cls(
            {
                "start": program.address[blocks.first].astype(np.uint32),
                "end": program.address[blocks.last].astype(np.uint32),
                "before": found.before[:-1],
                "reads": reads,
                "keeps": keeps,
                "leaves": liveness.leaving(found.exits),
                "fall": blocks.fall.astype(np.int32),
                "taken": blocks.taken.astype(np.int32),
                "reach": liveness.reach,
                "more": np.stack(blocks.table_edges).astype(np.int32),
                "implicit": np.stack(blocks.implicit_edges).astype(np.int32),
                "read_at": np.array(list(liveness.reads), dtype=np.uint32),
                "read": np.array(list(liveness.reads.values()), dtype=np.uint64),
                "fixups": found.fixups[blocks.owner if found.fixups.any() else []],
                "final": program.entry_address[liveness.summaries.no_return].astype(np.uint32),
            },
            program.model,
        )

    @cached_property
    def _starts(self) -> list[int]:
        starts: list[int] = self.arrays["start"].tolist()
        return starts

    def _block(self, address: int) -> int | None:
        block = bisect_right(self._starts, address) - 1
        inside = block >= 0 and address <= int(self.arrays["end"][block])
        return block if inside else None

    @cached_property
    def _edges(self) -> dict[str, Grouped]:
        """The targets of edges by their source, by kind."""
        edges = {name: self.arrays[name] for name in ("more", "implicit")}
        return {name: Grouped(one, other, len(self._starts)) for name, (one, other) in edges.items()}

    def _targets(self, name: str, block: int) -> list[int]:
        targets: list[int] = self._edges[name].at(block).tolist()
        return targets

    @cached_property
    def _reads(self) -> dict[int, int]:
        return dict(zip(self.arrays["read_at"].tolist(), self.arrays["read"].tolist(), strict=True))

    def _successors(self, block: int) -> list[int]:
        near = [int(self.arrays[name][block]) for name in ("fall", "taken")]
        return [other for other in near if other >= 0] + self._targets("more", block)

    def _set(self, name: str, block: int) -> int:
        return int(self.arrays[name][block])

    def never_returns(self, address: int) -> bool:
        """Tell whether the function that begins at ``address`` never comes back to its caller."""
        final = self.arrays.get("final")
        return final is not None and bool((final == address).any())

    def block(self, address: int) -> tuple[int, list[int]] | None:
        """Return the last instruction of the block around an address, and where blocks begin that follow it.

        Those too to which its last one leads when it faults. None where no function is.
        """
        block = self._block(address)
        if block is None:
            return None
        starts = self.arrays["start"]
        others = [*self._successors(block), *self._targets("implicit", block)]
        return self._set("end", block), [int(starts[other]) for other in others]

    def reach(self, address: int) -> Reach | None:
        """Return how control comes to an instruction; None where no function is."""
        block = self._block(address)
        return None if block is None else Reach(self._set("reach", block))

    def entered_beside(self, address: int) -> bool:
        """Tell whether control may come to an instruction otherwise than from the one before it."""
        block = self._block(address)
        if block is None or address != self._set("start", block):
            return block is None
        sources = [np.flatnonzero(self.arrays["taken"] == block)]
        sources += [self.arrays[name][0][self.arrays[name][1] == block] for name in ("more", "implicit")]
        return bool((self.arrays["end"][np.concatenate(sources)] != address - 4).any())

    def live(self, address: int, read: Callable[[int, int], Words]) -> int | None:
        """Return the set of what is live before an instruction; None where no function is.

        ``read(address, count)`` returns the words that were analysed.
        """
        block = self._block(address)
        if block is None:
            return None
        live = self._set("leaves", block)
        for other in self._successors(block):
            live |= self._set("before", other)
        live = live & self._set("keeps", block) | self._set("reads", block)
        first = (address - self._set("start", block)) // 4
        pairs = zip(*self._effects(block, read), strict=True)
        for defs, uses in reversed(list(pairs)[first:]):
            live = live & ~defs | uses
        if address == self._set("start", block):
            live |= self._set("before", block)
        return live | int(ALWAYS)

    def _effects(self, block: int, read: Callable[[int, int], Words]) -> tuple[list[int], list[int]]:
        """Return what each word of a block changes and reads."""
        if block not in self._known:
            at, defs, uses = self._piece(block, read)
            start, end = self._set("start", block), self._set("end", block)
            words = slice((start - at) // 4, (end - at) // 4 + 1)
            self._known[block] = defs[words].tolist(), uses[words].tolist()
        return self._known[block]

    def _add_fixups(self, uses: RegSet, decoded: Decoded, first: int, last: int) -> None:
        """Add what fix-ups read to what the words of some blocks in a row do."""
        some = slice(first, last + 1)
        length = (self.arrays["end"][some] - self.arrays["start"][some]) // 4 + 1
        uses |= np.where(may_fault(decoded), np.repeat(self.arrays["fixups"][some], length), np.uint64(0))

    def _piece(self, block: int, read: Callable[[int, int], Words]) -> tuple[int, Array, Array]:
        """Return an address, and what the words from there on change and read: those of a block, and more."""
        known = bisect_right(self._firsts, block) - 1
        if known >= 0 and block <= self._lasts[known]:
            return self._pieces[known]
        start, end = self.arrays["start"], self.arrays["end"]
        behind = min(block + self.together, len(start))
        gaps = np.flatnonzero(start[block + 1 : behind] != end[block : behind - 1] + 4)
        last = block + int(gaps[0]) if gaps.size else behind - 1
        at = int(start[block])
        decoded = decode_array(read(at, (int(end[last]) - at) // 4 + 1), self._model)
        effects = words_of(decoded)
        if len(self.arrays["fixups"]):
            self._add_fixups(effects.uses, decoded, block, last)
        for address in self._reads.keys() & range(at, int(end[last]) + 1, 4):
            effects.uses[(address - at) // 4] |= np.uint64(self._reads[address])
        self._firsts.insert(known + 1, block)
        self._lasts.insert(known + 1, last)
        self._pieces.insert(known + 1, (at, effects.defs, effects.uses))
        return self._pieces[known + 1]

    def why(self, address: int, read: Callable[[int, int], Words]) -> dict[int, int]:
        """Return, by bit of the set, the nearest instruction that makes a register live.

        That is one that reads it, a call that may, or an exit of the function behind which it
        may be read.
        """
        found: dict[int, int] = {}
        live = self.live(address, read)
        block = self._block(address)
        if live is None or block is None:
            return found
        seen: dict[int, int] = {}
        pending = [(block, address, live)]
        while pending:
            later = []
            for here, start, wanted in pending:
                wanted &= ~seen.get(start, 0)
                if wanted:
                    seen[start] = seen.get(start, 0) | wanted
                    later += self._readers(here, start, wanted, read, found)
            pending = later
        return found

    def _readers(
        self, block: int, start: int, wanted: int, read: Callable[[int, int], Words], found: dict[int, int]
    ) -> list[tuple[int, int, int]]:
        """Note which wanted registers a block reads; return where to look for the others."""
        later = []
        if start == self._set("start", block):
            later += [(b, self._set("start", b), wanted) for b in self._targets("implicit", block)]
        end = self._set("end", block)
        first = (start - self._set("start", block)) // 4
        pairs = zip(*self._effects(block, read), strict=True)
        for number, (defs, uses) in enumerate(list(pairs)[first:]):
            self._note(found, wanted & uses, start + 4 * number)
            wanted &= ~uses & ~defs
        for name in ("reads", "leaves"):
            self._note(found, wanted & self._set(name, block), end)
            wanted &= ~self._set(name, block)
            if name == "reads":
                wanted &= self._set("keeps", block)
        if wanted:
            later += [(other, self._set("start", other), wanted) for other in self._successors(block)]
        return later

    @staticmethod
    def _note(found: dict[int, int], registers: int, address: int) -> None:
        for bit in range(64):
            if registers >> bit & 1:
                found.setdefault(bit, address)
