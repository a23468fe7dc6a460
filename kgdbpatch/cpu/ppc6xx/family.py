"""The 6xx family, for the kernel component's client (component/ports.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.cpu.fixed_vectors import FixedVectors
from kgdbpatch.cpu.kernel_call import RealModeCaller
from kgdbpatch.cpu.msr import Status
from kgdbpatch.cpu.ppc6xx import mapping as mmu
from kgdbpatch.cpu.ppc6xx import msr, stub, translate
from kgdbpatch.cpu.ppc6xx.state import STATE
from kgdbpatch.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.vectors import Vectors
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.patch.watch import Code, WatchEntry
    from kgdbpatch.vm.registers import Layout

__all__ = ["Ppc6xx"]

_NEEDED = ("ibat0u", "dbat0u", "sdr1")
_MORE_BATS = tuple(f"{kind}bat{number}u" for kind in "id" for number in range(4, 8))
_MPC601 = 0x0001  # of PVR's upper half
_MODELS = ("", "7450", "750cl", "e300")


@dataclass(frozen=True, slots=True)
class Ppc6xx(FixedVectors, RealModeCaller, Status):
    """601-less 6xx, 7xx and 74xx; ``altivec`` tells whether the CPU has vector registers."""

    altivec: bool = False

    name = "ppc6xx"
    several = False
    restorable = True
    line = 32  # bytes: MPC750 UM 3.1, MPC7450 UM 3.1; the stub's stride
    apart = True
    code = stub.CODE
    state = STATE
    space = 0  # real mode

    call = staticmethod(stub.STUB.call)
    in_call = staticmethod(stub.STUB.inside)
    finish_call = staticmethod(stub.STUB.finish)
    leave_exception = staticmethod(msr.leave_exception)

    kernel_space = msr.KERNEL_SPACE
    translated = staticmethod(msr.translated)
    kernel_status = staticmethod(msr.kernel_status)

    check_blocks = staticmethod(mmu.check_blocks)
    check_unmapped = staticmethod(mmu.check_unmapped)
    free_entries = staticmethod(mmu.free_entries)
    make_room = staticmethod(mmu.make_room)
    shown = staticmethod(mmu.shown)
    mapping = staticmethod(mmu.mapping)
    remaps = staticmethod(mmu.remaps)
    tails_mapping = staticmethod(mmu.tails_mapping)
    unmapping = staticmethod(mmu.unmapping)
    translate = staticmethod(translate.translate)

    def release(self, session: Session, arena: int) -> None:
        """Do nothing: real mode needs no preparation."""

    @classmethod
    def of(cls, layout: Layout) -> Ppc6xx | None:
        """Return what serves a CPU: one with BATs and a hashed page table. The 601's BATs are others.

        CPUs that have these have real mode, RI in their MSR, and cache lines of 32 bytes or more; those of
        Book E, the 4xx and the 8xx have none of them.
        """
        if _missing(layout) or layout.pvr >> 16 == _MPC601:
            return None
        return cls(altivec="vscr" in layout.places)

    @classmethod
    def of_model(cls, model: str) -> Ppc6xx | None:
        """Return what serves a model, or None."""
        return cls(altivec=model == "7450") if model in _MODELS else None

    @property
    def model(self) -> str:
        """The model by whose instructions the CPU's kernel is read."""
        return "7450" if self.altivec else ""

    @property
    def target(self) -> str:
        """What the compiler calls the CPU."""
        return "7400" if self.altivec else "750"

    def check(self, session: Session) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU, or a state of it, that the stub's code is not for.

        It knows four pairs of BATs of each kind; a kernel that uses those that some models have besides
        could map anything by them.
        """
        missing = _missing(session.layout)
        if missing:
            raise Refused(
                "mapping", f"this CPU has no {' and no '.join(missing)}: it is not of the 6xx family"
            )
        for name in _MORE_BATS:
            if name in session.layout.places and session.register(name) & 3:
                raise Refused("mapping", f"the kernel uses {name}: only BATs 0 to 3 can be looked after")

    def page_table(self, session: Session) -> range:
        """Return where the hashed page table is: SDR1 (PEM 7.6.1.1)."""
        return mmu.page_table(session.register("sdr1"))

    def merged(self, states: Sequence[np.void]) -> np.void:
        """Return the only one: several CPUs are not served."""
        (state,) = states
        return state

    @property
    def _vectors(self) -> Vectors:
        from kgdbpatch.cpu.ppc6xx.vectors import ALTIVEC, VECTORS  # on use: it decodes

        return ALTIVEC if self.altivec else VECTORS

    def check_hook(self, state: np.void, hook: Hook) -> None:
        """Do nothing: where the vectors are the architecture says."""

    def hook_words(self, hook: Hook) -> dict[int, int]:
        """Return virtual address ─► word of a hook's code."""
        from kgdbpatch.cpu.real_hook import hook_words  # on use, as few patches are entered by a trap

        return hook_words(hook)

    def watch_code(self, entry: WatchEntry, tail: int, body: int) -> Code:
        """Return the code that takes traps out as they are hit."""
        from kgdbpatch.cpu.watching import real_mode_code  # on use, by those who watch what is executed

        return real_mode_code(entry, tail, body)


def _missing(layout: Layout) -> list[str]:
    return [name for name in _NEEDED if name not in layout.places]
