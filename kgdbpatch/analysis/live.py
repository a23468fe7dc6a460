"""Find the registers that are live at a site, and those a patch may use freely (paper, 3.2.3).

The analysis errs on one side only: what is not known to be dead is live. A register is free when
it is overwritten before it is read on every way from the site.

The paper takes a return register for dead when the function never writes it. That is not safe: a
function may return its argument where it found it. Here return registers are live at returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from kgdbpatch.analysis.callees import ANYTHING, Callees, Effect, by_convention
from kgdbpatch.analysis.convention import demand, is_odd_name, odd_results, oddities
from kgdbpatch.analysis.flow import Exit, ExitKind, FlowGraph, Words
from kgdbpatch.analysis.solve import Problem, Solution, solve
from kgdbpatch.errors import Misuse
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import ALL, CRS, FPRS, GPRS, REGISTERS, STATE, mask

__all__ = ["FREEABLE", "Liveness"]

FREEABLE = (GPRS & ~mask("r1", "r2", "r13")) | CRS | mask("lr", "ctr", "ca", "ov", "so")
_LR = mask("lr")


class Liveness:
    """The live registers of one function.

    ``call_effect`` may name the function that a call's target is in, None where there is none;
    without it and ``callees`` all calls are taken to keep to the convention.
    ``callees`` judges callees by their code and is preferred. ``hidden`` maps instructions to where
    control may go from them unseen (see `FlowGraph`); without it every block that no edge reaches
    is taken to be entered from every instruction that may fault, and from every nop. ``reads`` says
    what instructions may read besides what their words say.
    """

    def __init__(
        self,
        words: Words,
        address: int,
        abi: ABI,
        call_effect: Callable[[int], str | None] | None = None,
        *,
        callees: Callees | None = None,
        hidden: Mapping[int, Sequence[int]] | None = None,
        reads: Mapping[int, int] | None = None,
    ) -> None:
        self.graph = FlowGraph(words, address, hidden)
        self._abi, self._call_effect, self._callees = abi, call_effect, callees
        self._complete, self._reads = hidden is not None, reads or {}

    @cached_property
    def _demand(self) -> Solution:
        return demand(self.graph, self._abi)

    @cached_property
    def oddities(self) -> tuple[str, ...]:
        """The ways in which this function breaks its calling convention."""
        found = oddities(self.graph, self._abi, self._demand)
        if self._callees is not None and self._callees.is_odd(self.graph.address):
            found.append("has callers that rely on more than the convention")
        return tuple(found)

    def _callee(self, target: int) -> Effect:
        if self._callees is not None:
            return self._callees.call(target)
        name = self._call_effect(target) if self._call_effect is not None else None
        if self.oddities or (name is not None and is_odd_name(name)):
            return ANYTHING
        return by_convention(self._abi, indirect=True)

    def _transfer(self, instruction: Instruction) -> tuple[int, int]:
        defs, uses = self._effect(instruction)
        return defs, uses | self._reads.get(instruction.address, 0)

    def _effect(self, instruction: Instruction) -> tuple[int, int]:
        if instruction.kind in (Kind.SYSCALL, Kind.RFI, Kind.TRAP):
            return 0, ALL
        if instruction.kind is not Kind.CALL or instruction.target == instruction.address + 4:
            return instruction.defs, instruction.uses
        if instruction.conditional or self.graph.is_inner_call(instruction):
            return 0, ALL
        # a caller that reads on what no callee may leave behind knows more than the convention
        if self._demand.after(instruction.address) & odd_results(self._abi):
            return 0, ALL
        if instruction.target is None:
            effect = by_convention(self._abi, indirect=True)
        else:
            effect = self._callee(instruction.target)
        # which floating-point registers a callee saves for others (saveFP) is not looked into
        return effect.defs | instruction.defs, effect.uses | instruction.uses | self._abi.preserved & FPRS

    def _leave(self, leaving: Exit, last: Instruction) -> int:
        if self.oddities:
            return ALL
        if leaving.kind is ExitKind.RETURN:
            return self._abi.preserved | self._abi.returns
        # compilers make no conditional tail calls: this goes to the other half of a split function
        if leaving.kind is ExitKind.TAIL and not last.conditional and self._callees is not None:
            assert leaving.target is not None
            return self._callees.tail(leaving.target)
        return ALL

    @cached_property
    def _solution(self) -> Solution:
        # a fix-up outside the function may read anything
        outward = {
            block.last.address
            for block in self.graph.blocks.values()
            if any(x.kind is ExitKind.INDIRECT and x.target is not None for x in block.exits)
        }

        def transfer(instruction: Instruction) -> tuple[int, int]:
            defs, uses = self._transfer(instruction)
            return defs, ALL if instruction.address in outward else uses

        return solve(self.graph, Problem(transfer, self._leave, orphans_at_faults=not self._complete))

    def _check(self, site: int) -> None:
        if site not in self.graph:
            raise Misuse(f"0x{site:08x} is no instruction of the function at 0x{self.graph.address:08x}")

    def live(self, site: int) -> int:
        """Return the mask of registers that are live just before a site; raise `Misuse` outside."""
        self._check(site)
        return self._solution.before(site) | STATE | mask("fpscr", "r1", "r2", "r13")

    def free(self, site: int) -> int:
        """Return the mask of registers that code put before a site may overwrite.

        Floating-point registers are left out: MSR[FP] may be 0 in a kernel.
        """
        return FREEABLE & ~self.live(site) & ~FPRS

    @cached_property
    def is_leaf(self) -> bool:
        """Whether the function calls nothing, so may keep data below r1 (in a frame's red zone, too)."""
        return not any(
            (i.kind is Kind.CALL and i.target != i.address + 4) or i.kind is Kind.SYSCALL
            for i in self.graph.instructions
        )

    def why(self, site: int) -> dict[str, int | None]:
        """Return, for every live register, the address of the first instruction that reads it.

        A call, trap or exit counts as a reader of what it may read. None stands for registers
        that are live by decree (the stack pointer, privileged state).
        """
        self._check(site)
        found: dict[int, int] = {}
        seen: dict[int, int] = {}
        pending = [(site, self._solution.before(site))]
        while pending:
            later = []
            for address, wanted in pending:
                wanted &= ~seen.get(address, 0)
                if not wanted:
                    continue
                seen[address] = seen.get(address, 0) | wanted
                later += self._readers(address, wanted, found)
            pending = later
        live = self.live(site)
        return {name: found.get(n) for n, name in enumerate(REGISTERS) if live >> n & 1}

    def _readers(self, address: int, wanted: int, found: dict[int, int]) -> list[tuple[int, int]]:
        """Note which wanted registers one instruction reads; return where to look for the others."""
        instruction = self.graph.at(address)
        defs, uses = self._transfer(instruction)
        block = self.graph.block_at(address)
        if address == block.end - 4:
            for leaving in block.exits:
                uses |= self._leave(leaving, instruction) & ~defs
        for n in range(len(REGISTERS)):
            if wanted & uses & 1 << n:
                found.setdefault(n, address)
        rest = wanted & ~uses & ~defs
        if address != block.end - 4:
            return [(address + 4, rest)]
        return [(edge.target, rest) for edge in block.successors]
