"""Follow r1 through a payload in assembler: along every way it must come back to where it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kgdbpatch.errors import BadPatch
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.registers import mask

__all__ = ["deepest"]

_ADDI_R1, _STWU = 0x3821, 37  # addi r1,r1 in the upper half; the opcode of stwu
_R1 = mask("r1")


def deepest(code: Sequence[Instruction], origin: int) -> int:
    """Return by how many bytes a payload at ``origin`` moves its stack at most.

    Raises `BadPatch` where r1 moves otherwise than by stwu and addi, above its start, or not the same along
    every way.
    """
    end = len(code)
    depths = {0: 0}
    pending = [0]
    while pending:
        index = pending.pop()
        if index == end:
            continue
        depth = depths[index] + _change(code[index], index)
        if depth < 0:
            raise BadPatch(f"{_where(code[index], index)}: r1 would be {-depth} above where it was")
        for after in _successors(code[index], index, origin):
            if not 0 <= after <= end:
                continue
            if after not in depths:
                depths[after] = depth
                pending.append(after)
            elif depths[after] != depth:
                what = "the payload's end" if after == end else _where(code[after], after)
                raise BadPatch(
                    f"{what}: r1 is down by {depths[after]} or by {depth}, as the branches went; it must be "
                    "the same along every way"
                )
    if depths.get(end):
        raise BadPatch(f"the payload leaves r1 changed by {-depths[end]}")
    return max(depths.values())


def _where(instruction: Instruction, index: int) -> str:
    return f"payload instruction {index + 1} ({instruction.text})"


def _change(instruction: Instruction, index: int) -> int:
    """Return by how many bytes an instruction moves r1 down."""
    if not instruction.defs & _R1:
        return 0
    word = instruction.word
    if word >> 16 == _ADDI_R1 or (word >> 26 == _STWU and word >> 16 & 31 == 1):
        return 0x8000 - (word & 0xFFFF ^ 0x8000)
    raise BadPatch(
        f"{_where(instruction, index)}: r1 may only be moved by stwu and addi, and must end where it was"
    )


def _successors(instruction: Instruction, index: int, origin: int) -> Iterator[int]:
    """Yield the indexes of what may run after an instruction, as far as they are of the payload."""
    target = instruction.target
    if instruction.kind is not Kind.JUMP:
        yield index + 1
    if instruction.kind in (Kind.JUMP, Kind.BRANCH, Kind.CALL) and target is not None:
        yield (target - origin) // 4
