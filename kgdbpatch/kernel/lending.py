"""Memory for patches where none is hidden from the kernel: what its own allocator lends us."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.borrow import Anchor, Borrower
from kgdbpatch.component.layout import LEAST_SIZE
from kgdbpatch.errors import Misuse, Refused, TargetTimeout
from kgdbpatch.personality.base import MIB, MemoryPlan

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu, Debugger
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.calls import Calls
    from kgdbpatch.kernel.guest import RunningGuest
    from kgdbpatch.kernel.running import RunningText
    from kgdbpatch.personality import Personality
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["Lender", "given_up", "with_memory"]

G = TypeVar("G", bound="RunningGuest")

_SIZES = (4 * MIB, 2 * MIB)  # that are asked for, one after the other: the most that Linux gives is 4 MiB
_DEADLINE = 10.0  # seconds for a process to make a system call, and for the allocator to return

assert _SIZES[-1] >= LEAST_SIZE


@dataclass(frozen=True, slots=True)
class Lender:
    """One running kernel's allocator; the guest is held (`Qemu.exclusive`) by whoever asks it."""

    qemu: Qemu
    debugger: Callable[[], Debugger]
    cpu: Cpu
    personality: Personality
    image: Image
    calls: Calls
    text: RunningText

    def impossible(self) -> str | None:
        """Return why the kernel cannot be asked for memory; None where it can."""
        if self.personality.allocation(self.image, LEAST_SIZE) is None:
            return "how this kernel allocates pages is not known"
        if (cpus := self.qemu.cpus()) > 1 and not self.cpu.several:
            return f"the guest has {cpus} CPUs; the arena would be mapped for one only"
        if not self.calls.possible():
            return "the kernel's functions cannot be called"
        return None

    def borrow(self) -> MemoryPlan:
        """Have the kernel allocate memory; return the plan with it. What a dead client had got is taken over.

        Raises `Refused` (rule ``memory``) where the kernel gives none, `Misuse` where it carries a component
        in such memory already, `TargetTimeout` when no process makes a system call.
        """
        why = self.impossible()
        if why is not None:
            raise Refused("memory", why)
        if not self.qemu.runs():
            raise Refused("memory", "the kernel's allocator can be asked while the guest runs; let it run")
        found = self._borrower.settled()
        if found is not None and Arena.header(self.qemu.ram, self._at(found.memory)) is not None:
            raise Misuse(
                "the guest carries a kernel component already: another kgdbpatch booted it or is attached"
            )
        for size in () if found is not None else _SIZES:
            call, place = self.personality.allocation(self.image, size), self.calls.place()
            assert call is not None
            assert place is not None  # as is known by `impossible`
            found = self._borrower.borrow(call, size, place, _DEADLINE)
            if found is not None:
                break
        if found is None:
            raise Refused(
                "memory", f"the kernel has no {_SIZES[-1] // MIB} MiB left in one piece (its page allocator)"
            )
        at = self._at(found.memory)
        if not at or at % found.size or at + found.size > self.qemu.ram.size:
            self._give_back(found)
            raise Refused("memory", f"the kernel's allocator gave memory that will not do: 0x{at:x}")
        return replace(
            self.personality.memory, borrowed_at=at, borrowed=found.size, elsewhere=not self.cpu.apart
        )

    def lent(self) -> bool:
        """Tell whether the guest has memory of its allocator's for us, or is about to get some."""
        return self._borrower.anchor() is not None

    def in_use(self) -> bool:
        """Tell whether a component is in such memory."""
        found = self._borrower.anchor()
        if found is None or not found.memory:
            return False
        return Arena.header(self.qemu.ram, self._at(found.memory)) is not None

    def ours(self) -> bool:
        """Tell whether that is the memory which this guest's plan has."""
        memory, found = self.personality.memory, self._borrower.anchor()
        return found is not None and bool(memory.borrowed) and self._at(found.memory) == memory.borrowed_at

    def give_back(self) -> None:
        """Have the kernel free what it has lent, if it has; nothing of ours may be in use there any more.

        Raises `TargetTimeout` when no process makes a system call: we have it still then.
        """
        found = self._borrower.settled()
        if found is not None:
            self._give_back(found)
        else:
            self._borrower.hide_ram()

    def _give_back(self, found: Anchor) -> None:
        call, place = self.personality.freeing(self.image, found.memory, found.size), self.calls.place()
        if call is None or place is None:
            raise Refused("memory", "how this kernel frees pages is not known")
        self._borrower.give_back(found, call, place, _DEADLINE)

    def _at(self, memory: int) -> int:
        return self.personality.to_physical(self.image, memory) or 0

    def _stack_physical(self, address: int) -> int | None:
        linear = self.text.to_physical(address)
        return self.text.modules.physical(address) if linear is None else linear

    @property
    def _borrower(self) -> Borrower:
        return Borrower(
            self.qemu,
            self.debugger,
            self.cpu,
            self.calls.gates,
            self._stack_physical,
            lambda: self.personality.stack_size(self.image),
            self.text.to_physical,
        )


def with_memory(guest: G, hidden: str | None = None) -> G:
    """Return a guest that has memory for patches: where none is hidden from its kernel, that lends some.

    It is ``guest`` itself, or it takes its place. ``hidden`` is why nothing is hidden, where that is known
    better. What is lent is noted in the guest's record. Raises `Refused` (rule ``mapping``) where the kernel
    lends none, and as `Lender.borrow`.
    """
    recipe, lender = guest._recipe, guest._lender
    hidden = hidden or recipe.nothing_hidden
    if hidden is None:
        return guest
    try:
        plan = lender.borrow()
    except Refused as error:
        reason = f"{hidden}; nor does the kernel's own allocator give any: {error}"
        raise Refused("mapping", reason) from error
    names = ("borrowed_at", "borrowed", "elsewhere")
    lender.qemu.note(borrowed={name: getattr(plan, name) for name in names})
    guest.close()
    return type(guest)(lender.qemu, recipe.borrowing(plan), guest._image, wait=guest._wait)


def given_up(lender: Lender) -> None:
    """Give back what a guest's kernel has lent, as no component could be installed there; or leave it so.

    The guest is held.
    """
    if lender.lent():
        with suppress(TargetTimeout):  # nobody makes a system call
            lender.give_back()
            lender.qemu.note(borrowed=None)
