"""The e500 family, for the kernel component's client (component/ports.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.cpu import kernel_call
from kgdbpatch.cpu.booke import mapping as mmu
from kgdbpatch.cpu.booke import msr, stub
from kgdbpatch.cpu.booke.state import ENTRIES, STATE
from kgdbpatch.cpu.booke.window import SPACE
from kgdbpatch.cpu.kernel_call import LentThread
from kgdbpatch.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from kgdbpatch.component.ports import Session
    from kgdbpatch.image import Image
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.personality.base import Personality, Window
    from kgdbpatch.vm.registers import Layout

__all__ = ["E500"]

_NEEDED = ("ivpr", "csrr0", "csrr1", "mas0", "mas1", "mas2", "mas3", "mas7", "tlb1cfg", "l1cfg0", "acc")
_BLOCK_SIZE = 0x0180_0000  # L1CFG0[CBSIZE]: 0 for 32 bytes
_THREAD = LentThread(SPACE)


@dataclass(frozen=True, slots=True)
class E500:
    """The e500v1 and e500v2, by the registers of Freescale's Book E MMU and of SPE."""

    name = "e500"
    model = "e500"
    target = "8540"  # of GCC, which knows no later one without SPE
    line = 32  # bytes: E500CORERM 11.1; the stub's stride, looked up in `check`
    bare = False
    code = stub.CODE
    state = STATE

    call = staticmethod(stub.call)
    release = staticmethod(stub.release)
    in_call = staticmethod(stub.STUB.inside)
    finish_call = staticmethod(stub.STUB.finish)
    leave_exception = staticmethod(msr.leave_exception)

    call_code = kernel_call.CODE
    gate = staticmethod(_THREAD.gate)
    note_call = staticmethod(_THREAD.note)
    enter_call = staticmethod(_THREAD.enter)
    in_kernel_call = staticmethod(_THREAD.inside)
    leave_kernel_call = staticmethod(_THREAD.leave)

    interruptible = staticmethod(msr.interruptible)
    napping = staticmethod(msr.napping)
    in_process = staticmethod(msr.in_process)
    translated = staticmethod(msr.translated)
    kernel_status = staticmethod(msr.kernel_status)

    check_blocks = staticmethod(mmu.check_blocks)
    check_unmapped = staticmethod(mmu.check_unmapped)
    free_bats = staticmethod(mmu.free_entries)
    shown = staticmethod(mmu.shown)
    mapping = staticmethod(mmu.mapping)
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
        table: int,
        words: Callable[[int, int], npt.NDArray[np.uint32]],
    ) -> Hook | None:
        """Return None: the hook of `kgdbpatch.patch.trap` needs real mode."""
        return None
