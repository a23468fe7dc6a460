"""The kernel's threads as its profile knows them: what holds a patch's memory, which contexts are live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import ComponentClient, Header
from kgdbpatch.component.holders import holders
from kgdbpatch.component.ports import Cpu
from kgdbpatch.component.table import Record
from kgdbpatch.image import Image
from kgdbpatch.kernel.module_list import ModuleList
from kgdbpatch.personality.base import ModuleId, Personality, Thread
from kgdbpatch.results import Holder, PatchState
from kgdbpatch.vm.qemu import Qemu

if TYPE_CHECKING:
    from kgdbpatch.vm.registers import GRegisters

__all__ = ["Threads"]


class Threads:
    """The threads of one guest, for the client (`ports.Personality`); none where its profile finds none."""

    def __init__(self, qemu: Qemu, personality: Personality, image: Image, cpu: Cpu, shift: int) -> None:
        """``shift`` is what kernel virtual addresses of its stacks are more than physical ones."""
        self._qemu, self._personality, self._image, self._shift = qemu, personality, image, shift
        self._cpu = cpu
        self._modules = ModuleList(personality, image, qemu.ram.read)

    def to_physical(self, address: int) -> int | None:
        """Return the physical address of wired kernel memory, a module's code included, or None."""
        found = self._personality.to_physical(self._image, address)
        return self._modules.physical(address) if found is None else found

    def loaded(self) -> frozenset[ModuleId]:
        """Return the modules that the kernel has now."""
        return self._modules.loaded()

    def read(self, address: int, size: int) -> bytes | None:
        """Return bytes at a kernel virtual address that stacks can be at, or None."""
        ram, physical = self._qemu.ram, self._personality.stack_physical(self._image, address)
        return ram.read(physical, size) if physical is not None and physical + size <= ram.size else None

    def find(self, word: int) -> Sequence[int]:
        """Return the kernel virtual addresses at which a word stands, in all memory that was ever used."""
        found: list[int] = []
        for start, end in self._qemu.ram.touched():
            words = self._qemu.ram.array(start, (end - start) & ~3).view(">u4")
            found += (self._shift + start + 4 * np.flatnonzero(words == word)).tolist()
        return found

    def word(self, address: int) -> int | None:
        """Return the word at such an address, or None."""
        data = self.read(address, 4)
        return None if data is None else int.from_bytes(data, "big")

    def all(self) -> Iterable[Thread]:
        """Return the threads that are on the kernel's lists."""
        return self._personality.threads(self._image, self.read)

    def holders(
        self, component: ComponentClient, header: Header, records: list[Record]
    ) -> dict[int, tuple[Holder, ...]]:
        """Return what holds the retired ones of ``records``, by id."""
        retired = [record for record in records if record.state is PatchState.RETIRED]
        contexts = [(at + self._shift, pc) for at, pc in component.contexts(header, retired)]
        return holders(component.arena(header.arena), records, self.all(), self.word, contexts)

    def may_resume(self, contexts: Iterable[tuple[int, int]], registers: GRegisters) -> list[int]:
        """Return the pcs of contexts that threads may come back to; the guest stands still."""
        sp = None if self._cpu.in_process(registers["msr"]) else registers["r1"]
        live = cache(lambda at: self._personality.may_resume(self._image, self, at + self._shift, sp))
        return [pc for at, pc in contexts if live(at)]
