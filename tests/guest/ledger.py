"""What was written as code since one looked, and which of it the component has flushed in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.layout import SPRINGBOARD_OFFSET, SPRINGBOARD_SIZE, Flushed
from kgdbpatch.component.table import Record
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.qemu import Qemu

from .caches import LINE
from .parts import arena

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu

__all__ = ["Ledger", "lines"]

PAGE = 0x1000


def lines(address: int, size: int) -> set[int]:
    """Return where the cache lines begin that hold some bytes."""
    return set(range(address & -LINE, address + size, LINE))


@dataclass
class Ledger:
    """Code memory as it was when it was last looked at, and how many flushes had been noted."""

    kernel: Kernel
    text: list[tuple[int, int]]  # physical address and size, of each piece of the kernel's own code
    cpu: Cpu

    def __post_init__(self) -> None:
        self.arena = arena(self.kernel)
        self.ram = Qemu.attach(self.kernel.name).ram
        self.data: set[int] = set()
        self.text = [*self.text, (self.arena.plan.physical + SPRINGBOARD_OFFSET, PAGE)]
        self.look()

    def look_for_data(self) -> None:
        """Learn where the trap hook keeps registers, behind its code: it writes there with every hit."""
        hook = self.kernel.header.hook
        if hook is not None:
            self.data |= {
                address - hook.shift for address in set(hook.span) - self.cpu.hook_words(hook).keys()
            }

    def look(self) -> None:
        self.code = [self._words(at, size).copy() for at, size in self.text]
        self.next_id = self.kernel.header.next_id
        self.count = self.arena.flush_count

    def _words(self, at: int, size: int) -> npt.NDArray[np.uint32]:
        return self.ram.array(at, size).view(">u4")

    def changed(self) -> list[int]:
        """Return the physical addresses of the text's and the springboards' words that changed since."""
        found: list[int] = []
        for (at, size), before in zip(self.text, self.code, strict=True):
            found += (at + 4 * np.flatnonzero(self._words(at, size) != before)).tolist()
        return [word for word in found if word not in self.data]

    def body(self, record: Record) -> set[int]:
        """Return the lines of a patch's own code."""
        found = lines(self.arena.inside(record.body), record.constant_size)
        if record.springboard is not None:
            size = SPRINGBOARD_SIZE * record.springboard_slots
            found |= lines(self.arena.springboard(record.springboard), size)
        return found

    def judge(self) -> list[str]:
        """Return what was written as code since the last look and not flushed in time; look again."""
        log = self.arena.flushes(self.count)
        news = [record for record in self.arena.records() if record.id >= self.next_id]
        wrong = []
        self.look_for_data()
        for word in self.changed():
            if not self._order(log, word & -LINE, word + 4):
                wrong.append(f"0x{word:08x} was written and not flushed")
        for record in news:
            splice = self._order(log, record.site_physical & -LINE, record.site_physical + 4)
            if splice is None:
                wrong.append(f"the splice of patch {record.id} was not flushed")
                continue
            for line in sorted(self.body(record)):
                done = self._order(log, line, line + 1)
                if done is None or done[1] > splice[0]:
                    wrong.append(f"line 0x{line:08x} of patch {record.id} was not flushed before its splice")
        self.look()
        return wrong

    @staticmethod
    def _order(log: list[tuple[Flushed, int, int]], start: int, end: int) -> tuple[int, int] | None:
        """Return when the lines of ``[start, end)`` left the data cache, and then the other; or None."""
        covering = [(at, cache) for at, (cache, low, high) in enumerate(log) if low <= start and end <= high]
        data = next((at for at, cache in covering if cache is Flushed.DATA), None)
        if data is None:
            return None
        code = next((at for at, cache in covering if cache is Flushed.CODE and at > data), None)
        return None if code is None else (data, code)
