"""The e500 family, for the kernel component's client (component/ports.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.cpu.booke import mapping as mmu
from kgdbpatch.cpu.booke import msr, stub
from kgdbpatch.cpu.booke.state import ENTRIES, STATE
from kgdbpatch.cpu.booke.window import SPACE
from kgdbpatch.cpu.kernel_call import KernelCaller
from kgdbpatch.cpu.msr import Status
from kgdbpatch.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from kgdbpatch.component.ports import Session
    from kgdbpatch.component.protocol import Command
    from kgdbpatch.image import Image
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.personality.base import ArenaPlan, Personality, Window
    from kgdbpatch.vm.registers import Layout

__all__ = ["E500"]

_NEEDED = ("ivpr", "csrr0", "csrr1", "mas0", "mas1", "mas2", "mas3", "mas7", "tlb1cfg", "l1cfg0", "acc")
_BLOCK_SIZE = 0x0180_0000  # L1CFG0[CBSIZE]: 0 for 32 bytes


@dataclass(frozen=True, slots=True)
class E500(KernelCaller, Status):
    """The e500v1 and e500v2, by the registers of Freescale's Book E MMU and of SPE."""

    name = "e500"
    several = True
    model = "e500"
    target = "8540"  # of GCC, which knows no later one without SPE
    line = 32  # bytes: E500CORERM 11.1; the stub's stride, looked up in `check`
    bare = False
    code = stub.CODE
    state = STATE
    space = SPACE

    call = staticmethod(stub.call)
    release = staticmethod(stub.release)
    in_call = staticmethod(stub.STUB.inside)
    finish_call = staticmethod(stub.STUB.finish)
    leave_exception = staticmethod(msr.leave_exception)

    kernel_space = msr.KERNEL_SPACE
    translated = staticmethod(msr.translated)
    kernel_status = staticmethod(msr.kernel_status)

    check_blocks = staticmethod(mmu.check_blocks)
    check_unmapped = staticmethod(mmu.check_unmapped)
    merged = staticmethod(mmu.merged)
    free_entries = staticmethod(mmu.free_entries)
    shown = staticmethod(mmu.shown)
    mapping = staticmethod(mmu.mapping)
    remaps = staticmethod(mmu.remaps)
    tails_mapping = staticmethod(mmu.tails_mapping)
    page_table = staticmethod(mmu.page_table)
    unmapping = staticmethod(mmu.unmapping)
    translate = staticmethod(mmu.translate)

    @classmethod
    def of(cls, layout: Layout) -> E500 | None:
        """Return what serves a CPU: one with Freescale's MMU, and SPE, which later cores lack."""
        return cls() if layout.places.keys() >= set(_NEEDED) else None

    @classmethod
    def of_model(cls, model: str) -> E500 | None:
        """Return what serves a model, or None."""
        return cls() if model == cls.model else None

    def check(self, session: Session) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU that the stub's code is not for."""
        count = session.register("tlb1cfg") & 0xFFF
        if count != ENTRIES:
            raise Refused("mapping", f"TLB1 of this CPU has {count} entries, not {ENTRIES}")
        if session.register("l1cfg0") & _BLOCK_SIZE:
            raise Refused("mapping", f"this CPU's cache lines have more than {self.line} bytes (L1CFG0)")

    def make_room(self, arena: ArenaPlan, state: np.void) -> list[Command]:
        """Return none: entries of TLB1 are free, or they are not."""
        return []

    def vectors(self, personality: Personality, image: Image) -> tuple[int, ...]:
        """Return nothing: exceptions enter the kernel translated, wherever IVPR and the IVORs say."""
        return ()

    def vector_shift(self, personality: Personality, image: Image) -> int | None:
        """Return None: there are no vectors at known places."""
        return None

    def vector_tails(self, personality: Personality, image: Image) -> list[Window]:
        """Return nothing, as there are no vectors."""
        return []

    def gates(self, personality: Personality, image: Image, size: int) -> list[int]:
        """Return where ``size`` bytes in a page of the kernel's text are unused by it (virtual addresses)."""
        from kgdbpatch.cpu.booke.vectors import gates  # on use, as most commands need none

        return gates(personality, image, size)

    def trap_hook(
        self,
        personality: Personality,
        image: Image,
        arena: ArenaPlan,
        words: Callable[[int, int], npt.NDArray[np.uint32]],
    ) -> Hook | None:
        """Return where the program exception can be hooked, or None."""
        from kgdbpatch.cpu.booke.vectors import trap_hook  # on use, as most commands need none

        return trap_hook(personality, image, arena, words)

    def check_hook(self, state: np.void, hook: Hook) -> None:
        """Raise `Refused` (rule ``trap``) where IVPR and IVOR6 are not what the kernel's code says."""
        from kgdbpatch.cpu.booke.vectors import IVOR_BITS, IVPR_BITS

        at = int(state["ivpr"]) & IVPR_BITS | int(state["ivor6"]) & IVOR_BITS
        if at != hook.vector:
            raise Refused(
                "trap",
                f"the program exception enters at 0x{at:08x} (IVPR, IVOR6), not at 0x{hook.vector:08x}",
            )

    def hook_words(self, hook: Hook) -> dict[int, int]:
        """Return virtual address ─► word of a hook's code."""
        from kgdbpatch.cpu.booke.hook import hook_words  # on use, as few patches are entered by a trap

        return hook_words(hook)
