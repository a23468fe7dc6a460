"""The 405, for the kernel component's client (component/ports.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.cpu.fixed_vectors import FixedVectors
from kgdbpatch.cpu.kernel_call import RealModeCaller
from kgdbpatch.cpu.msr import Status
from kgdbpatch.cpu.ppc405 import msr
from kgdbpatch.cpu.ppc405.mapping import Paged
from kgdbpatch.cpu.ppc405.state import STATE
from kgdbpatch.cpu.stub import Stub

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.vectors import Vectors
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.vm.registers import Layout

__all__ = ["STUB", "Ppc405"]

_RFCI = 0x4C00_0066
STUB = Stub(Path(__file__).with_name("stub.bin").read_bytes(), _RFCI, space=0)  # real mode
# Of the 4xx that are not Book E: TLB and its processes, critical interrupts, and what the 403 has not.
_NEEDED = frozenset({"evpr", "zpr", "pid", "srr2", "srr3", "pit", "sler", "su0r", "iac3"})


@dataclass(frozen=True, slots=True)
class Ppc405(FixedVectors, Paged, RealModeCaller, Status):
    """The 405, of which nothing but the PVR differs from one to the other."""

    name = "405"
    several = False
    restorable = False  # QEMU 7.2 saves the TLB under the name of the 6xx's, and loads it as that
    model = "405"
    target = "405"
    line = 32  # bytes: PPC405 core user's manual; the stub's stride
    apart = True
    code = STUB.code
    state = STATE
    space = 0  # real mode

    call = staticmethod(STUB.call)
    in_call = staticmethod(STUB.inside)
    finish_call = staticmethod(STUB.finish)
    leave_exception = staticmethod(msr.leave_exception)

    kernel_space = msr.KERNEL_SPACE
    translated = staticmethod(msr.translated)
    kernel_status = staticmethod(msr.kernel_status)

    @classmethod
    def of(cls, layout: Layout) -> Ppc405 | None:
        """Return what serves a CPU: one with the registers of the 405."""
        return cls() if layout.places.keys() >= _NEEDED else None

    @classmethod
    def of_model(cls, model: str) -> Ppc405 | None:
        """Return what serves a model, or None."""
        return cls() if model == cls.model else None

    def check(self, session: Session) -> None:
        """Do nothing: what the kernel does with the TLB is its own affair."""

    def release(self, session: Session, arena: int) -> None:
        """Do nothing: real mode needs no preparation."""

    def merged(self, states: Sequence[np.void]) -> np.void:
        """Return the only one: several CPUs are not served."""
        (state,) = states
        return state

    @property
    def _vectors(self) -> Vectors:
        from kgdbpatch.cpu.ppc405.vectors import VECTORS  # on use: it decodes

        return VECTORS

    def check_hook(self, state: np.void, hook: Hook) -> None:
        """Raise `Refused` (rule ``trap``) where EVPR says that exceptions enter elsewhere."""
        from kgdbpatch.errors import Refused

        base, assumed = int(state["evpr"]) & 0xFFFF_0000, (hook.vector - hook.shift) & 0xFFFF_0000
        if base != assumed:
            raise Refused("trap", f"exceptions enter at 0x{base:08x} (EVPR), not at 0x{assumed:08x}")

    def hook_words(self, hook: Hook) -> dict[int, int]:
        """Return virtual address ─► word of a hook's code."""
        from kgdbpatch.cpu.real_hook import hook_words  # on use, as few patches are entered by a trap

        return hook_words(hook)
