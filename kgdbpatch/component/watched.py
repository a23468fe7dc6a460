"""The watched instructions of a guest (patch/watch.py): where traps are, which were hit, traps in and out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.protocol import Command
from kgdbpatch.errors import ComponentDamaged
from kgdbpatch.patch.watch import (
    AREA,
    AREA_OFFSET,
    COPY_OFFSET,
    LIVE_OFFSET,
    TAIL_WORDS,
    TRAP_WORD,
    WATCH,
    Begun,
)
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.component.stop import Stop
    from kgdbpatch.component.table import Table

__all__ = ["Watched", "is_watch", "watched"]

_STEPS = 200  # instructions: the vector's, the tail's and the body's
_TRANSLATED = 0x20  # MSR[IR]

Words = npt.NDArray[np.uint32]


def is_watch(raw: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Tell which records are those of watched instructions."""
    found: npt.NDArray[np.bool_] = (
        (raw["guard_start"] == WATCH[0]) & (raw["guard_end"] == WATCH[1]) & (raw["state"] != State.RETIRED)
    )
    return found


def watched(ram: Readable, arena: Arena, table: Table | None = None) -> Watched | None:
    """Return the watched instructions of a guest, or None."""
    table = arena.table() if table is None else table
    chosen = np.flatnonzero(is_watch(table.raw))
    if not chosen.size:
        return None
    raw = table.raw[chosen[0]]
    return Watched(
        ram, int(raw["id"]), int(raw["site_physical"]), arena.inside(int(raw["body"])), int(raw["body_size"])
    )


class Watched:
    """What is watched, in the guest's RAM, which goes on running; ``body`` and ``site`` are physical."""

    def __init__(self, ram: Readable, patch_id: int, site: int, body: int, body_size: int) -> None:
        self.id, self._site, self._body, self._ram = patch_id, site, body, ram
        area = np.frombuffer(ram.read(body + AREA_OFFSET, AREA.itemsize), AREA)[0]
        self.base, self.size, self._text = (int(area[name]) for name in ("base", "size", "text"))
        self.tail = int(area["tail"])
        self.tail_code: list[int] = area["tail_code"].tolist()
        if COPY_OFFSET + self.size != body_size or self._text + self.size > ram.size:
            raise ComponentDamaged("what is kept of the watched instructions was overwritten")

    @property
    def begun(self) -> bool:
        """Whether all traps were put in."""
        return int.from_bytes(self._ram.read(self._body + LIVE_OFFSET, 4), "big") == Begun.YES

    @property
    def copy(self) -> Words:
        """The kernel's own words where it is watched, 0 elsewhere."""
        return self._ram.array(self._body + COPY_OFFSET, self.size).view(">u4").astype(np.uint32)

    @property
    def text(self) -> Words:
        """The text's words as they are now."""
        return self._ram.array(self._text, self.size).view(">u4").astype(np.uint32)

    def trapped(self) -> npt.NDArray[np.bool_]:
        """Tell of each word of the text whether a trap of ours is there."""
        found: npt.NDArray[np.bool_] = (self.text == TRAP_WORD) & (self.copy != 0)
        return found

    @property
    def told(self) -> str:
        """How many of the watched blocks were run, in words."""
        blocks, left = int((self.copy != 0).sum()), int(self.trapped().sum())
        return f"{blocks - left} of {blocks} blocks run" if self.begun else "begun, not all blocks watched"

    def undo(self, address: int, words: Words) -> None:
        """Put the kernel's own words in place of traps in the ``words`` at an address."""
        first = max(address, self.base)
        end = min(address + 4 * len(words), self.base + self.size)
        if first >= end:
            return
        here = slice((first - address) // 4, (end - address) // 4)
        at = self._body + COPY_OFFSET + first - self.base
        own = self._ram.array(at, end - first).view(">u4").astype(np.uint32)
        words[here] = np.where((words[here] == TRAP_WORD) & (own != 0), own, words[here])

    # ---- commands: the guest is stopped -----------------------------------------------------------

    def traps_in(self) -> list[Command]:
        """Return the commands that put a trap wherever the kernel's own word is watched."""
        copy, text = self.copy, self.text
        chosen = np.flatnonzero((copy != 0) & (text == copy))
        return self._splices(chosen, copy, into=True)

    def traps_out(self) -> list[Command]:
        """Return the commands that take all traps out."""
        return self._splices(np.flatnonzero(self.trapped()), self.copy, into=False)

    def _splices(self, chosen: npt.NDArray[np.int64], copy: Words, *, into: bool) -> list[Command]:
        places, words = (self._text + 4 * chosen).tolist(), copy[chosen].tolist()
        if into:
            return [Command(Op.SPLICE, at, word, TRAP_WORD) for at, word in zip(places, words, strict=True)]
        return [Command(Op.SPLICE, at, TRAP_WORD, word) for at, word in zip(places, words, strict=True)]

    def unwatched(self, sites: Iterable[int]) -> list[Command]:
        """Return the commands that give sites up at which a trap is: somebody else wants them."""
        commands, copy, text = list[Command](), self.copy, self.text
        for site in sites:
            index = (site - self.base) // 4
            if 0 <= site - self.base < self.size and copy[index] and text[index] == TRAP_WORD:
                commands.append(Command(Op.SPLICE, self._text + 4 * index, TRAP_WORD, int(copy[index])))
                commands.append(Command(Op.STORE, self._body + COPY_OFFSET + 4 * index, 0))
        return commands

    def again(self, own: Words) -> list[Command]:
        """Return the commands that watch the words ``own`` where the text holds them, and nothing else.

        Where it holds something else somebody has put that in: it is watched no more.
        """
        copy, text = self.copy, self.text
        wanted = np.where((text == own) | (text == TRAP_WORD) & (copy != 0), own, 0)
        at = self._body + COPY_OFFSET
        pairs = zip(np.flatnonzero(wanted != copy).tolist(), wanted[wanted != copy].tolist(), strict=True)
        return [Command(Op.STORE, at + 4 * index, word) for index, word in pairs]

    def mark(self, begun: int) -> Command:
        """Return the command that notes whether all traps are in."""
        return Command(Op.STORE, self._body + LIVE_OFFSET, begun)

    def tail_in(self) -> list[Command]:
        """Return the commands that write what leads from the vector to the body."""
        places = range(self.tail, self.tail + 4 * TAIL_WORDS, 4)
        words = [Command(Op.STORE, at, word) for at, word in zip(places, self.tail_code, strict=True)]
        return [*words, Command(Op.FLUSH, self.tail, 4 * TAIL_WORDS)]

    def tail_out(self) -> list[Command]:
        """Return the commands that leave no trace of that."""
        places = range(self.tail, self.tail + 4 * TAIL_WORDS, 4)
        return [*(Command(Op.STORE, at, 0) for at in places), Command(Op.FLUSH, self.tail, 4 * TAIL_WORDS)]

    def leave(self, stop: Stop) -> None:
        """Let a CPU that is on its way through the vector or the code behind it go on until it is out."""
        ranges = (
            range(self._site - 4, self._site + 4),
            range(self.tail, self.tail + 4 * TAIL_WORDS),
            range(self._body, self._body + AREA_OFFSET),
        )
        for _ in range(_STEPS):
            registers = stop.registers()
            real = not registers["msr"] & _TRANSLATED
            if not real or not any(registers["pc"] in one for one in ranges):
                return
            stop.session.step()
