"""The kernel's threads as its profile knows them: what holds a patch's memory, which contexts are live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import ComponentClient, Header
from kgdbpatch.component.holders import holders
from kgdbpatch.component.ports import Cpu
from kgdbpatch.component.table import Record
from kgdbpatch.image import Image
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.kernel.module_list import ModuleList
from kgdbpatch.kernel.safe_moment import Stacks
from kgdbpatch.personality.base import ModuleId, PageTables, Personality, Thread
from kgdbpatch.results import Holder, PatchState
from kgdbpatch.vm.qemu import Qemu

if TYPE_CHECKING:
    from kgdbpatch.vm.registers import GRegisters

__all__ = ["Threads"]

_PAGE = 4096  # bytes, the least of any kernel


class Threads:
    """The threads of one guest, for the client (`ports.Personality`); none where its profile finds none."""

    def __init__(self, qemu: Qemu, personality: Personality, image: Image, cpu: Cpu, shift: int) -> None:
        """``shift`` is what kernel virtual addresses of its stacks are more than physical ones."""
        self._qemu, self._personality, self._image, self._shift = qemu, personality, image, shift
        self._cpu = cpu
        self._modules = ModuleList(personality, image, qemu.ram.read)

    @cached_property
    def _pages(self) -> PageTables | None:
        return self._personality.page_tables(self._image, self._qemu.ram.read)

    def to_physical(self, address: int) -> int | None:
        """Return the physical address of wired kernel memory, a module's code included, or None."""
        found = self._personality.to_physical(self._image, address)
        return self._modules.physical(address) if found is None else found

    def mapped(self, address: int) -> int | None:
        """Return where the kernel's own page tables map an address; None where that is not known."""
        return None if self._pages is None else self._pages.physical(address)

    def loaded(self) -> frozenset[ModuleId]:
        """Return the modules that the kernel has now."""
        return self._modules.loaded()

    def read(self, address: int, size: int) -> bytes | None:
        """Return bytes at a kernel virtual address that stacks can be at, or None."""
        pieces: list[bytes] = []
        while size > 0:
            physical = self.physical(address)
            count = min(size, _PAGE - address % _PAGE)
            if physical is None or physical + count > self._qemu.ram.size:
                return None
            pieces.append(self._qemu.ram.read(physical, count))
            address, size = address + count, size - count
        return b"".join(pieces)

    def physical(self, address: int) -> int | None:
        """Return the physical address of memory that stacks can be at, or None."""
        physical = self._personality.stack_physical(self._image, address)
        return self.mapped(address) if physical is None else physical

    def _addresses(self, physical: int) -> list[int]:
        """Return the kernel virtual addresses of a byte of RAM, as far as stacks can be at them."""
        mapped = [] if self._pages is None else self._pages.addresses(physical)
        return [physical + self._shift, *mapped]

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
        threads = list(self.all())
        linear = partial(self._personality.stack_physical, self._image)
        mapped = any(linear(thread.stack.start) is None for thread in threads)
        contexts = []
        for at, pc in component.contexts(header, retired):
            address = self._addresses(at)[-1]
            known = any(one.stack.start <= address < one.stack.end for one in threads)
            if known or not mapped or address != at + self._shift:  # else it is in no stack
                contexts.append((address, pc))
        return holders(component.arena(header.arena), records, threads, self.word, contexts)

    def may_resume(self, contexts: Iterable[tuple[int, int]], registers: GRegisters) -> list[int]:
        """Return the pcs of contexts that threads may come back to; the guest stands still."""
        sp = None if self._cpu.in_process(registers["msr"]) else registers["r1"]
        asleep = self._switched_out(registers["r1"])

        @cache
        def live(address: int) -> bool:
            if any(address in dead for dead in asleep):
                return False
            return self._personality.may_resume(self._image, self, address, sp)

        return [pc for at, pc in contexts if any(map(live, self._addresses(at)))]

    def may_return(self, words: Iterable[tuple[int, int]], cpus: Sequence[GRegisters]) -> list[int]:
        """Return those words (physical address, word) that threads may return to, no leftovers of calls.

        The guest stands still, its ``cpus`` being as they are.
        """
        found = list(words)
        places = [(at, at) for at, _ in found]
        kept = {at for cpu in cpus for at in self.may_resume(places, cpu)}
        if not kept:
            return []
        offsets = sorted({SYSV.lr_offset, self._image.abi.lr_offset})
        status = self._cpu.kernel_status
        stacks = Stacks([*self.all()], cpus, self._cpu.in_process, self.read, status, offsets)
        returns = cache(stacks.returns)

        def live(address: int) -> bool:
            known = returns(stacks.thread_at(address))
            return known is None or address in known

        return [word for at, word in found if at in kept and any(map(live, self._addresses(at)))]

    def _switched_out(self, sp: int) -> list[range]:
        """Return the parts of stacks that nobody comes back to while a CPU's stack pointer is ``sp``.

        Where that is in no thread's stack, an interrupt's or a process's, it is not known who has the CPU.
        """
        known = list(self.all())
        if not any(thread.stack.start <= sp < thread.stack.end for thread in known):
            return []
        return [
            range(stack.start, sp if stack.start <= sp < stack.end else thread.sp)
            for thread in known
            for stack in (thread.stack,)
        ]
