"""Judge whether a function keeps to its calling convention, by what its code does.

Liveness at calls and returns rests on the convention, and kernels hold code that breaks it:
assembler helpers, register savers, exception paths, the cold halves of split functions. Such code
shows itself: it reads registers that no caller sets, changes what it must preserve, returns
through an address of its own making. Whatever looks odd here gets no benefit of the doubt.
"""

from __future__ import annotations

import re

from kgdbpatch.analysis.flow import Block, Exit, ExitKind, FlowGraph
from kgdbpatch.analysis.solve import Problem, Solution, solve
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import ALL, CRS, FPRS, bit, mask

__all__ = ["breaks_convention", "demand", "is_odd_name", "odd_results", "oddities", "put_back"]

_LR = mask("lr")
_STICKY = mask("so", "fpscr")
_SAVED_CRS = mask("cr2", "cr3", "cr4")
_SYSTEM = mask("r2", "r13")
_FRAME_BASES = frozenset({1, 11, 12, 30, 31})

_ODD_NAMES = re.compile(
    r"""\.cold(\.\d+)?$ | ^_*(save|rest)(gpr|fpr|vr|FP|fp|VEC|World)
    | ^_?_mcount | ^_?mcount$ | ^_?ftrace_(regs_)?caller | ^_?ftrace_(regs_)?call$ | ^_?ftrace_graph""",
    re.VERBOSE,
)


def is_odd_name(name: str) -> bool:
    """Tell whether functions of this name are known to have a convention of their own."""
    return _ODD_NAMES.search(name) is not None


def _evidence(uses: int) -> int:
    """Return what reading these registers proves to be wanted.

    An invalid form reads everything for safety only, and mfcr all of CR for the sake of a bit.
    """
    if uses == ALL:
        return 0
    return uses & ~CRS if uses & CRS == CRS else uses


def demand(graph: FlowGraph, abi: ABI, tail: dict[int, int] | None = None) -> Solution:
    """Find what is certainly read later: live registers with nothing assumed of calls and exits.

    ``tail`` may say what the targets of tail calls read.
    """

    def transfer(instruction: Instruction) -> tuple[int, int]:
        if not instruction.known or instruction.kind is Kind.FOREIGN:
            return 0, 0
        if instruction.kind is Kind.CALL and instruction.target != instruction.address + 4:
            return (0 if instruction.conditional else abi.volatile), instruction.uses
        return instruction.defs, _evidence(instruction.uses)

    def leave(leaving: Exit, _last: Instruction) -> int:
        return tail.get(leaving.target, 0) if tail and leaving.target is not None else 0

    return solve(graph, Problem(transfer, leave, orphans_at_indirect=True))


def odd_results(abi: ABI) -> int:
    """Return the registers that no caller may look at after a call."""
    return abi.volatile & ~abi.returns & ~_LR & ~_STICKY


def put_back(graph: FlowGraph) -> int:
    """Return the registers that a function loads from what may be its frame."""
    found = 0
    for instruction in graph.instructions:
        memory = instruction.memory
        framed = instruction.kind is Kind.LOAD and memory is not None and memory.base in _FRAME_BASES
        if framed or instruction.mnemonic in ("mtcrf", "mtocrf"):
            found |= instruction.defs
    return found


def _changed_for_good(graph: FlowGraph, abi: ABI) -> int:
    """Return the preserved registers that are written and never loaded back."""
    written = restored = 0
    for instruction in graph.instructions:
        if instruction.kind is Kind.LOAD:
            memory = instruction.memory
            if memory is not None and memory.base in _FRAME_BASES:
                restored |= instruction.defs
            else:
                written |= instruction.defs
        elif instruction.mnemonic in ("mtcrf", "mtocrf"):
            restored |= instruction.defs & _SAVED_CRS
        else:
            written |= instruction.defs
    preserved = abi.preserved & ~mask("r1") & ~_STICKY & ~FPRS
    saved = (preserved & ((1 << 32) - 1)) | _SAVED_CRS
    return written & ~restored & saved | (written | restored) & _SYSTEM


def _makes_return_address(graph: FlowGraph) -> bool:
    """Tell whether LR is set from anything but a saved LR."""
    keepers = 0
    for instruction in graph.instructions:
        if instruction.mnemonic == "mflr":
            keepers |= instruction.defs
    for block in graph.blocks.values():
        loaded = 0
        for instruction in block.instructions:
            if instruction.mnemonic == "mtlr" and not instruction.uses & (loaded | keepers):
                return True
            memory = instruction.memory
            framed = instruction.kind is Kind.LOAD and memory is not None and memory.base in _FRAME_BASES
            loaded = loaded | instruction.defs if framed else loaded & ~instruction.defs
    return False


def _reachable(graph: FlowGraph) -> set[int]:
    pending = [graph.address]
    if graph.indirect:
        pending += [block.start for block in graph.orphans]
    found = set(pending)
    while pending:
        for edge in graph.blocks[pending.pop()].successors:
            if edge.target not in found:
                found.add(edge.target)
                pending.append(edge.target)
    return found


def _ends_in_bug(block: Block) -> bool:
    """Tell whether a block at a function's end need not go on: it traps, or calls last of all."""
    return block.last.kind is Kind.CALL or any(i.kind is Kind.TRAP for i in block.instructions)


def oddities(graph: FlowGraph, abi: ABI, wanted: Solution) -> list[str]:
    """Return the ways in which a function breaks its convention; ``wanted`` is its `demand`."""
    if not graph.blocks:
        return ["no code"]
    found = []
    given = abi.args | abi.preserved | _LR | _STICKY | (mask("r12") if abi.red_zone else 0)
    if wanted.live_in[graph.address] & ~given & ((1 << bit("msr")) - 1):
        found.append("reads registers that are not arguments")
    returns = False
    for start in _reachable(graph):
        block = graph.blocks[start]
        returns |= any(leaving.kind in (ExitKind.RETURN, ExitKind.TAIL) for leaving in block.exits)
        for leaving in block.exits:
            if leaving.kind is ExitKind.RFI:
                found.append("returns from an exception")
            elif leaving.kind is ExitKind.OFF_END and not _ends_in_bug(block):
                found.append("falls into the code behind it")
        for instruction in block.instructions:
            if graph.is_inner_call(instruction):
                found.append("calls into itself")
            elif instruction.kind in (Kind.UNKNOWN, Kind.FOREIGN):
                found.append("holds words that are no instructions")
    if returns and _changed_for_good(graph, abi):
        found.append("changes registers that it must preserve")
    if _makes_return_address(graph):
        found.append("returns to an address of its own making")
    return sorted(set(found))


def breaks_convention(graph: FlowGraph, abi: ABI) -> bool:
    """Tell whether a function breaks its convention in any way."""
    return bool(oddities(graph, abi, demand(graph, abi)))
