"""Tell where r1 is no stack that a patch could use, and where SRR0 and SRR1 await their rfi."""

from __future__ import annotations

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import mask

__all__ = ["exception_return", "keeps_stack", "no_stack", "reads_exception"]

_R1 = mask("r1")
_SRR = mask("srr0", "srr1")


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
            behind = graph.onward(graph.successors(instruction.address), lambda i: bool(i.defs & _R1))
            if instruction.kind is not Kind.LOAD or any(graph.at(at).kind is Kind.RFI for at in behind):
                found |= behind
    return found


def exception_return(graph: FlowGraph) -> set[int]:
    """Return the addresses in a function from behind a write of SRR0 or SRR1 to the rfi, that included."""
    returns = {i.address for i in graph.instructions if i.kind is Kind.RFI}
    if not returns:
        return set()
    written = [after for i in graph.instructions if i.defs & _SRR for after in graph.successors(i.address)]
    return graph.onward(written, lambda i: i.kind is Kind.RFI) | returns


def reads_exception(graph: FlowGraph) -> bool:
    """Tell whether a function reads SRR0 or SRR1 otherwise than by rfi: it may be entered with both set."""
    return any(i.uses & _SRR and i.kind is not Kind.RFI for i in graph.instructions)
