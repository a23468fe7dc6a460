"""What the planner knows of a site: its instruction, what is free around it, whether r1 is a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode

if TYPE_CHECKING:
    from kgdbpatch.analysis.unwinding import Unwinding
    from kgdbpatch.isa.abi import ABI
    from kgdbpatch.isa.decode import Instruction

__all__ = ["FORCEABLE", "Site", "Spill"]

# What somebody who knows the code may know better: a reservation that is never lost in practice, a
# fault that never happens, a trap that is never looked up, exception code that nothing interrupts, a
# switch of the kernel's that nobody throws, code that may be data for all we see, a function that is called
# otherwise than the debug information says. In the order of the bits by which the patch table tells of them:
# append only.
FORCEABLE = (
    "reservation",
    "fault table",
    "trap",
    "mapping",
    "exception return",
    "untranslated",
    "rewritten",
    "data",
    "signature",
)


class Site(NamedTuple):
    """An instruction of the kernel and what is free before it, and after it wherever it may lead.

    ``stack``: r1 is a kernel stack that code may grow. ``returning``: SRR0 and SRR1 hold what a coming rfi
    needs, so nothing may fault or sleep here; ``trappable``: they hold nothing still to be read. ``under`` is
    the splice of the older patch that a new one is put over, ``under_at`` where that leads, ``under_moved``
    where its displaced instruction stands. ``untranslated``: address translation is off, and r1 is anybody's.
    ``remaps``: the instruction changes what memory is mapped. ``force`` lifts the rules of `FORCEABLE`;
    ``forced`` are those that it lifted. ``once``, not 0, is the size of kernel stacks, bytes: a thread inside
    passes by. ``entered``: the function of the site has been entered and has changed nothing that its caller
    wants back; LR is where it returns to. ``prefix``: what of the function's tracing runs before
    the site. ``loops``: a branch of the function leads to it.
    ``arguments``: bytes of its arguments that lie in its caller's frame, as far as the exits' plan asked.
    ``unwinding``: where its caller's registers are behind the entry, as far as a plan asked.
    """

    instruction: Instruction
    free: frozenset[str]
    free_after: frozenset[str]
    abi: ABI
    stack: bool = True
    returning: bool = False
    under: int | None = None
    under_at: int = 0
    under_moved: int | None = None
    trappable: bool = True
    untranslated: bool = False
    remaps: bool = False
    force: bool = False
    forced: tuple[str, ...] = ()
    once: int = 0
    entered: bool = False
    prefix: tuple[int, ...] = ()
    loops: bool = False
    arguments: int = 0
    unwinding: Unwinding | None = None

    @property
    def word(self) -> int:
        """The word that stands at the site now."""
        return self.instruction.word if self.under is None else self.under

    @property
    def address(self) -> int:
        """The site's virtual address."""
        return self.instruction.address

    @property
    def at(self) -> str:
        """The address as people read it."""
        return f"0x{self.address:08x}"

    def refused(self, rule: str, why: str) -> Refused:
        """Return the error that says that a rule forbids a patch here."""
        return Refused(rule, why, self.address)

    def spill(self, *registers: int) -> Spill:
        """Return a frame that keeps general-purpose registers; raise `Refused` where r1 is no stack."""
        if not self.stack:
            told = f"at {self.at} too few registers are free, and r1 is not the kernel's stack there"
            raise self.refused("stack", told)
        return Spill(self.abi, registers)


class Spill(NamedTuple):
    """A stack frame with one slot for each of some registers, by position; it leaves the red zone alone."""

    abi: ABI
    registers: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes by which r1 moves: linkage area, slots and red zone, a multiple of 16."""
        return -(-(self.abi.linkage + 4 * len(self.registers) + self.abi.red_zone) // 16) * 16

    def slot(self, position: int) -> int:
        """Return the offset from r1 of a slot."""
        return self.abi.linkage + 4 * position

    def enter(self) -> int:
        """Return the word that makes the frame."""
        return encode.stwu(1, -self.size, 1)

    def keep(self, position: int) -> int:
        """Return the word that stores the register of a slot."""
        return encode.stw(self.registers[position], self.slot(position), 1)

    def reload(self, position: int) -> int:
        """Return the word that loads the register of a slot."""
        return encode.lwz(self.registers[position], self.slot(position), 1)

    def leave(self) -> int:
        """Return the word that gives the frame back."""
        return encode.addi(1, 1, self.size)
