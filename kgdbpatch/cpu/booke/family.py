"""The families of Book E, for the kernel component's client (component/ports.py): the e500 and the 440."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke import msr, window_440, window_e500
from kgdbpatch.cpu.booke.mapping import Wiring
from kgdbpatch.cpu.booke.state import ENTRIES, ENTRIES_440, STATE, STATE_440
from kgdbpatch.cpu.booke.stub import STUB, STUB_440, Caller
from kgdbpatch.cpu.booke.tlb import GIVEN_BACK, Entry, Entry440, entries
from kgdbpatch.cpu.booke.window import SPACE, seen
from kgdbpatch.cpu.kernel_call import KernelCaller, LinearCaller
from kgdbpatch.cpu.msr import Status
from kgdbpatch.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from kgdbpatch.component.ports import Session
    from kgdbpatch.image import Image
    from kgdbpatch.patch.trap import Hook
    from kgdbpatch.patch.watch import Code, WatchEntry
    from kgdbpatch.personality.base import ArenaPlan, Personality, Window
    from kgdbpatch.vm.ram import Readable
    from kgdbpatch.vm.registers import Layout

__all__ = ["E500", "Ppc440"]

_BLOCK_SIZE = 0x0180_0000  # L1CFG0[CBSIZE]: 0 for 32 bytes


class BookE(Caller, Wiring, KernelCaller, Status):
    """What the families of Book E have in common: no real mode, two address spaces, exceptions anywhere."""

    model: ClassVar[str]
    apart = False
    space = SPACE

    leave_exception = staticmethod(msr.leave_exception)

    kernel_space = msr.KERNEL_SPACE
    translated = staticmethod(msr.translated)
    kernel_status = staticmethod(msr.kernel_status)

    @abstractmethod
    def check(self, session: Session) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU that the stub's code is not for."""

    def merged(self, states: Sequence[np.void]) -> np.void:
        """Return the state of the only CPU."""
        return states[0]

    def changed_text(self, ram: Readable, arena: int) -> dict[int, int]:
        """Return nothing: the kernel's text stays as it is."""
        return {}

    def vectors(self, personality: Personality, image: Image) -> tuple[int, ...]:
        """Return nothing: exceptions enter the kernel translated, wherever IVPR and the IVORs say."""
        return ()

    def variables(self, personality: Personality, image: Image) -> frozenset[int]:
        """Return nothing, as there are no vectors."""
        return frozenset()

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

        return trap_hook(personality, image, arena, words, self.model)

    def watch_code(self, entry: WatchEntry, tail: int, body: int) -> Code:
        """Raise `Refused` (rule ``trap``): such code needs real mode."""
        from kgdbpatch.patch.watch import NO_WATCH  # on use, by those who watch what is executed

        raise Refused("trap", NO_WATCH)

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


@dataclass(frozen=True, slots=True)
class E500(BookE):
    """The e500v1 and e500v2, by the registers of Freescale's Book E MMU and of SPE."""

    name = "e500"
    several = True
    restorable = True
    model = "e500"
    target = "8540"  # of GCC, which knows no later one without SPE
    line = 32  # bytes: E500CORERM 11.1; the stub's stride, looked up in `check`
    stub = STUB
    code = STUB.code
    state = STATE
    tlb, kind, most = "TLB1", Entry, 8

    @classmethod
    def of(cls, layout: Layout) -> E500 | None:
        """Return what serves a CPU: one with Freescale's MMU, and SPE, which later cores lack."""
        needed = {
            "ivpr",
            "csrr0",
            "csrr1",
            "mas0",
            "mas1",
            "mas2",
            "mas3",
            "mas7",
            "tlb1cfg",
            "l1cfg0",
            "acc",
        }
        return cls() if layout.places.keys() >= needed else None

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

    def open_window(self, session: Session, arena: int) -> None:
        """Give the stub a place to run, by TLB0 first."""
        window_e500.open_window(session, arena, self.stub)

    def close_window(self, session: Session, arena: int) -> None:
        """Take that place away again."""
        window_e500.close_window(session, arena, self.stub)

    def before_memory(self, shift: int) -> KernelCaller:
        """Return the CPU itself: `show_ram` has its code run by physical addresses."""
        return self

    def show_ram(self, session: Session, size: int) -> None:
        """Make the other address space as the stub does, without it."""
        self.leave_exception(session)
        window_e500.show_ram(session, size)

    def hide_ram(self, session: Session, size: int) -> None:
        """Take that out of the other address space."""
        self.leave_exception(session)
        window_e500.hide_ram(session, size)

    def sees(self, session: Session, arena: int) -> bool:
        """Tell whether the CPU, whose MSR has `SPACE`, finds all that the stub needs."""
        return seen(session, arena)

    def merged(self, states: Sequence[np.void]) -> np.void:
        """Return the first CPU's state, with the entries that are valid on others where it has none."""
        state = states[0].copy()
        for other in states[1:]:
            for number, page in enumerate(entries(state)):
                if page is None:
                    state["tlb1"][number] = other["tlb1"][number]
        return state

    def wired(self, state: np.void) -> Mapping[int, Entry | None]:
        """Return all of TLB1: kernels take its entries from the first on."""
        return dict(enumerate(entries(state)))

    def given_back(self, number: int, kept: np.void) -> Command:
        """Return the command by which an entry is as it was."""
        mas1, mas2, mas3, _ = kept["tlb1"][number].tolist()
        return Command(Op.TLB, mas2, mas3, mas1 & ~0xFF | GIVEN_BACK | number)


@dataclass(frozen=True, slots=True)
class Ppc440(BookE):
    """The 440 and what has its core: a TLB of 64 entries that software fills, by PID and MMUCR."""

    name = "440"
    several = False
    restorable = False  # QEMU 7.2 saves the TLB under the name of the 6xx's, and loads it as that
    model = "440"
    target = "440"
    line = 32  # bytes: PPC440 core user's manual; the stub's stride
    stub = STUB_440
    code = STUB_440.code
    state = STATE_440
    tlb, kind, most = "the TLB", Entry440, 6

    @classmethod
    def of(cls, layout: Layout) -> Ppc440 | None:
        """Return what serves a CPU: Book E with the MMU of IBM's 4xx."""
        needed = {"ivpr", "ivor13", "ivor14", "csrr0", "csrr1", "mmucr", "pid", "pir"}
        return cls() if layout.places.keys() >= needed else None

    @classmethod
    def of_model(cls, model: str) -> Ppc440 | None:
        """Return what serves a model, or None."""
        return cls() if model == cls.model else None

    def check(self, session: Session) -> None:
        """Do nothing: what the kernel does with the TLB is looked at when the stub gets its place to run."""

    def open_window(self, session: Session, arena: int) -> None:
        """Give the stub a place to run, in entries that the kernel fills no longer."""
        window_440.open_window(session, arena, self.stub)

    def close_window(self, session: Session, arena: int) -> None:
        """Take that place away again, and give the entries back."""
        if not self.is_open(session, arena):
            self.open_window(session, arena)
        window_440.close_window(session, arena, self.stub)

    def before_memory(self, shift: int) -> KernelCaller:
        """Return what is called through the linear map, of which the kernel never loses an entry."""
        return LinearCaller(shift)

    def show_ram(self, session: Session, size: int) -> None:
        """Do nothing: the linear map shows it."""

    def hide_ram(self, session: Session, size: int) -> None:
        """Do nothing."""

    def sees(self, session: Session, arena: int) -> bool:
        """Tell whether the CPU, whose MSR has `SPACE`, finds all that the stub needs."""
        return window_440.is_open(session, arena)

    def is_there(self, session: Session, arena: int) -> bool:
        """Tell whether the kernel leaves the component's entries alone."""
        return window_440.is_lowered(session, arena)

    def call_base(self, arena: int) -> int:
        """Return at which address calls of the kernel's functions find the arena's beginning."""
        return window_440.CALL_BASE

    def changed_text(self, ram: Readable, arena: int) -> dict[int, int]:
        """Return the instructions that compare with the last entry that the kernel fills."""
        return window_440.changed_text(ram, arena)

    def wired(self, state: np.void) -> Mapping[int, Entry | None]:
        """Return the entries that the kernel has given up for an arena, and those that it never fills."""
        numbers = (*window_440.own_entries(state), *range(int(state["last"]) + 1, ENTRIES_440))
        return {number: Entry440.read(state["tlb"][number]) for number in numbers}

    def given_back(self, number: int, kept: np.void) -> Command:
        """Return the command by which an entry is free: what the kernel had in it was a copy."""
        return Entry440.none(number)
