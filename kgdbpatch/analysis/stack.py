"""Tell where r1 is no stack that a patch could use, and where SRR0 and SRR1 await their rfi."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import mask

__all__ = ["exception_return", "keeps_stack", "no_stack", "reads_exception"]

_R1 = mask("r1")
_SRR = mask("srr0", "srr1")


def _forward(
    graph: FlowGraph, starts: Iterable[int], ends: Callable[[Instruction], bool]
) -> tuple[set[int], bool]:
    """Return what may run after ``starts`` up to what ``ends`` it, that included; and whether an rfi may."""
    found: set[int] = set()
    pending = [after for start in starts for after in graph.successors(start)]
    rfi = False
    while pending:
        here = pending.pop()
        if here in found:
            continue
        found.add(here)
        instruction = graph.at(here)
        rfi = rfi or instruction.kind is Kind.RFI
        if not ends(instruction):
            pending += graph.successors(here)
    return found, rfi


def keeps_stack(instruction: Instruction) -> bool:
    """Tell whether an instruction that writes r1 makes it a stack pointer of the same or another stack."""
    word = instruction.word
    base = word >> 16 & 31
    match instruction.mnemonic:
        case "stwu" | "stwux":
            return base == 1
        case "addi" | "add" | "or" | "subf":  # moved, or copied from where it was kept
            return not (instruction.mnemonic == "addi" and base == 0)
        case "lwz":
            return base == 1 and word & 0xFFFF == 0  # the back chain
    return False


def no_stack(graph: FlowGraph) -> set[int]:
    """Return the addresses in a function at which r1 is not surely a kernel stack.

    Those are the ones behind an instruction that builds r1 in parts, or fetches it from a special
    register, until it is whole; and, where an rfi may follow, behind a load of r1: that is the
    interrupted context's. A load of r1 without an rfi is a context switch.
    """
    found: set[int] = set()
    for instruction in graph.instructions:
        if instruction.defs & _R1 and not keeps_stack(instruction):
            behind, rfi = _forward(graph, [instruction.address], lambda i: bool(i.defs & _R1))
            if rfi or instruction.kind is not Kind.LOAD:
                found |= behind
    return found


def exception_return(graph: FlowGraph) -> set[int]:
    """Return the addresses in a function from behind a write of SRR0 or SRR1 to the rfi, that included."""
    returns = {i.address for i in graph.instructions if i.kind is Kind.RFI}
    if not returns:
        return set()
    writes = [i.address for i in graph.instructions if i.defs & _SRR]
    found, _ = _forward(graph, writes, lambda i: i.kind is Kind.RFI)
    return found | returns


def reads_exception(graph: FlowGraph) -> bool:
    """Tell whether a function reads SRR0 or SRR1 otherwise than by rfi: it may be entered with both set."""
    return any(i.uses & _SRR and i.kind is not Kind.RFI for i in graph.instructions)
