"""The 405, for the kernel component's client (component/ports.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.cpu.kernel_call import RealModeCaller
from kgdbpatch.cpu.msr import Status
from kgdbpatch.cpu.ppc405 import msr
from kgdbpatch.cpu.ppc405.mapping import Paged
from kgdbpatch.cpu.ppc405.state import STATE
from kgdbpatch.cpu.stub import Stub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.vectors import Vectors
    from kgdbpatch.image import Image
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.personality.base import ArenaPlan, Personality, Window
    from kgdbpatch.vm.ram import Readable
    from kgdbpatch.vm.registers import Layout

__all__ = ["STUB", "Ppc405"]

_RFCI = 0x4C00_0066
STUB = Stub(Path(__file__).with_name("stub.bin").read_bytes(), _RFCI, space=0)  # real mode
# Of the 4xx that are not Book E: TLB and its processes, critical interrupts, and what the 403 has not.
_NEEDED = frozenset({"evpr", "zpr", "pid", "srr2", "srr3", "pit", "sler", "su0r", "iac3"})


@dataclass(frozen=True, slots=True)
class Ppc405(Paged, RealModeCaller, Status):
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

    def changed_text(self, ram: Readable, arena: int) -> dict[int, int]:
        """Return nothing: the kernel's text stays as it is."""
        return {}

    def vectors(self, personality: Personality, image: Image) -> tuple[int, ...]:
        """Return the virtual addresses of the exception vectors, those that the image holds."""
        return self._vectors.places(personality, image)

    def variables(self, personality: Personality, image: Image) -> frozenset[int]:
        """Return the addresses of words among the vectors' code in which that keeps data of its own."""
        return self._vectors.variables(personality, image)

    def vector_shift(self, personality: Personality, image: Image) -> int | None:
        """Return what physical addresses of the vectors are less than virtual ones; None without vectors."""
        return self._vectors.shift(personality, image)

    def vector_tails(self, personality: Personality, image: Image) -> list[Window]:
        """Return the unused bytes behind each vector's code."""
        return self._vectors.tails(personality, image)

    def gates(self, personality: Personality, image: Image, size: int) -> list[int]:
        """Return where ``size`` bytes behind a vector's code are unused by the kernel (virtual addresses)."""
        return self._vectors.gates(personality, image, size)

    def trap_hook(
        self,
        personality: Personality,
        image: Image,
        arena: ArenaPlan,
        words: Callable[[int, int], npt.NDArray[np.uint32]],
    ) -> Hook | None:
        """Return where the program exception can be hooked, or None."""
        return self._vectors.hook(personality, image, arena, words)

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
