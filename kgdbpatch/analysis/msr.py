"""Follow the translation bits of MSR through registers, as far as they can be told."""

from __future__ import annotations

import enum

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.isa.decode import Instruction, Kind
from kgdbpatch.isa.msr import KernelSpace
from kgdbpatch.isa.operands import rotation_mask
from kgdbpatch.isa.registers import GPRS

__all__ = ["Translation", "sets_translation"]


class Translation(enum.Enum):
    """What a value does to address translation when it becomes the MSR."""

    ON = "on"
    OFF = "off"
    KEPT = "kept"
    UNKNOWN = "unknown"


# Of each translation bit: 0, 1, "k" (as in the MSR), "?".
_Value = tuple[int | str, ...]
_UNKNOWN: _Value = ("?", "?")
_KEPT: _Value = ("k", "k")
_State = dict[int, _Value]
_Bits = tuple[int, int]


def _constant(value: int, bits: _Bits) -> _Value:
    return tuple(int(bool(value & bit)) for bit in bits)


def _merge(old: _Value, bits: _Bits, *, ones: int = 0, zeros: int = 0) -> _Value:
    """Return a value after bits were set and others cleared."""
    return tuple(
        1 if ones & bit else 0 if zeros & bit else before for bit, before in zip(bits, old, strict=True)
    )


def _result(instruction: Instruction, state: _State, bits: _Bits) -> _Value:
    """Return what the instruction leaves in the register it writes."""
    word = instruction.word
    source, base, immediate = word >> 21 & 31, word >> 16 & 31, word & 0xFFFF
    old = state.get(source, _UNKNOWN)
    match instruction.mnemonic.rstrip("."):
        case "mfmsr":
            return _KEPT
        case "addi" if base == 0:
            return _constant(immediate, bits)
        case "addis" if base == 0:
            return _constant(0, bits)
        case "ori":
            return _merge(old, bits, ones=immediate)
        case "oris" | "xoris":
            return old
        case "xori" if not immediate & sum(bits):
            return old
        case "andi":
            return _merge(old, bits, zeros=~immediate)
        case "andis":
            return _constant(0, bits)
        case "or" if source == word >> 11 & 31:
            return old
        case "rlwinm" if word >> 11 & 31 == 0:
            return _merge(old, bits, zeros=~rotation_mask(word))
    return _UNKNOWN


def _step(instruction: Instruction, state: _State, bits: _Bits) -> _State:
    written = instruction.defs & GPRS
    if instruction.kind is Kind.CALL:
        return {r: value for r, value in state.items() if r >= 14}
    if not written:
        return state
    result = _result(instruction, state, bits)
    changed = {r: value for r, value in state.items() if not written >> r & 1}
    if written.bit_count() == 1 and result != _UNKNOWN:
        changed[written.bit_length() - 1] = result
    return changed


def _meet(one: _State | None, other: _State) -> _State:
    if one is None:
        return other
    return {
        r: tuple(a if a == b else "?" for a, b in zip(value, other[r], strict=True))
        for r, value in one.items()
        if r in other
    }


def _classify(value: _Value, wanted: _Value) -> Translation:
    if any(bit in (0, 1) and bit != on for bit, on in zip(value, wanted, strict=True)):
        return Translation.OFF
    if "?" in value:
        return Translation.UNKNOWN
    return Translation.ON if value == wanted else Translation.KEPT


def sets_translation(graph: FlowGraph, space: KernelSpace) -> dict[int, Translation]:
    """Return, for every mtmsr and mtsrr1 of a function, what its value does to translation."""
    wanted = space.wanted()
    states: dict[int, _State | None] = dict.fromkeys(graph.blocks)
    starts = [graph.address, *(block.start for block in graph.unreached)]
    for start in starts:
        states[start] = {}
    pending = starts
    found: dict[int, Translation] = {}
    while pending:
        block = graph.blocks[pending.pop()]
        state = states[block.start] or {}
        for instruction in block.instructions:
            if instruction.mnemonic in ("mtmsr", "mtsrr1"):
                source = instruction.word >> 21 & 31
                found[instruction.address] = _classify(state.get(source, _UNKNOWN), wanted)
            state = _step(instruction, state, space.bits)
        for edge in block.successors:
            merged = _meet(states[edge.target], state)
            if merged != states[edge.target]:
                states[edge.target] = merged
                pending.append(edge.target)
    return found
