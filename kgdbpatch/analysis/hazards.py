"""Find the places that must not be patched whatever registers are free there (DESIGN.md, rule 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kgdbpatch.analysis.cfg import FlowGraph, Words
from kgdbpatch.analysis.msr import Translation, sets_translation
from kgdbpatch.isa.decode import Instruction, Kind, decode, decode_array
from kgdbpatch.isa.msr import KernelSpace

__all__ = ["reservation_window", "translation", "untranslated"]

_LONGEST_WINDOW = 64  # instructions followed from an lwarx whose stwcx. is nowhere in sight
_LWARX, _STWCX = "lwarx", "stwcx."


def _leading_to(ends: set[int], before: dict[int, set[int]], start: int | None = None) -> set[int]:
    """Return ``ends`` and what lies before them, up to ``start``, which does not count."""
    window, pending = set(ends), list(ends)
    while pending:
        for address in before.get(pending.pop(), set()) - window - {start}:
            window.add(address)
            pending.append(address)
    return window


def _window_of(graph: FlowGraph, lwarx: int) -> set[int]:
    """Return what lies on the paths from one lwarx to its stwcx., that one included."""
    before: dict[int, set[int]] = {}
    ends: set[int] = set()
    early: set[int] = set()
    edge_of_search, seen = [lwarx], {lwarx}
    distance = 0
    while edge_of_search:
        distance += 1
        further = []
        for address in edge_of_search:
            for after in graph.successors(address):
                before.setdefault(after, set()).add(address)
                mnemonic = graph.at(after).mnemonic
                if mnemonic == _STWCX:
                    ends.add(after)
                if after in seen or mnemonic == _LWARX:
                    continue
                seen.add(after)
                if distance <= _LONGEST_WINDOW:
                    early.add(after)
                if mnemonic != _STWCX:
                    further.append(after)
        edge_of_search = further
    if not ends:
        return early
    return _leading_to(ends, before, lwarx)


def _window_from_outside(graph: FlowGraph) -> set[int]:
    """Return what lies on the paths from a function's start to a stwcx. whose reservation another one made.

    That is one behind no lwarx, and tried again where it fails; others only drop a reservation.
    """
    before: dict[int, set[int]] = {graph.address: set()}
    ends, pending = set[int](), [graph.address]
    while pending:
        here = pending.pop()
        mnemonic = graph.at(here).mnemonic
        if mnemonic == _STWCX and here + 4 in graph and graph.at(here + 4).kind is Kind.BRANCH:
            ends.add(here)
        if mnemonic in (_LWARX, _STWCX):
            continue
        for after in graph.successors(here):
            if after not in before:
                pending.append(after)
            before.setdefault(after, set()).add(here)
    return _leading_to(ends, before)


def reservation_window(words: Words, address: int) -> set[int]:
    """Return the addresses in a function where a patch would lose a reservation.

    They lie behind an lwarx on a path to its stwcx., which belongs to them; the lwarx does not:
    code put before it does no harm. Of an lwarx without stwcx. the next 64 instructions count, and
    what leads from the function's start to a stwcx. without lwarx that is tried again.
    """
    forms = decode_array(np.asarray(words, dtype=np.uint32)).form
    lwarx = np.nonzero(forms == decode(0x7C000028).form)[0]
    if not len(lwarx) and not (forms == decode(0x7C00012D).form).any():
        return set()
    graph = FlowGraph(words, address)
    window = _window_from_outside(graph)
    for index in lwarx.tolist():
        window |= _window_of(graph, address + 4 * index)
    return window


def translation(words: Words, address: int, space: KernelSpace) -> tuple[set[int], set[int]]:
    """Return where in a function address translation may be off, and the mtmsr that may turn it off.

    An MSR value that cannot be told counts as off only in functions with an rfi. What follows such
    an mtmsr is fetched from its physical address, so it cannot be moved.
    """
    decoded = decode_array(np.asarray(words, dtype=np.uint32))
    switches = (decoded.form == decode(0x7C000124).form) | (decoded.kind == Kind.RFI)
    if not switches.any():
        return set(), set()
    graph = FlowGraph(words, address)
    has_rfi = bool((decoded.kind == Kind.RFI).any())
    values = sets_translation(graph, space)

    def turns_off(site: int) -> bool:
        value = values.get(site, Translation.UNKNOWN)
        return value is Translation.OFF or (value is Translation.UNKNOWN and has_rfi)

    turning: set[int] = set()
    pending: list[int] = []
    for instruction in graph.instructions:
        if instruction.mnemonic == "mtmsr" and turns_off(instruction.address):
            turning.add(instruction.address)
            pending += graph.successors(instruction.address)
        elif instruction.mnemonic == "mtsrr1" and turns_off(instruction.address):
            pending += [block.start for block in graph.unreached]
    off = graph.onward(pending, lambda i: i.mnemonic == "mtmsr" and not turns_off(i.address))
    return off, turning


def _word_at(sections: Sequence[tuple[int, Words]], address: int) -> int | None:
    for start, words in sections:
        if 0 <= address - start < 4 * len(words) and not address & 3:
            return int(words[(address - start) // 4])
    return None


def _enables(recent: Sequence[Instruction], mtmsr: Instruction, space: KernelSpace) -> bool:
    """Tell whether the value given to mtmsr surely turns translation on: by setting both bits."""
    register = mtmsr.word >> 21 & 31
    for instruction in reversed(recent):
        if instruction.defs >> register & 1:
            is_immediate = instruction.mnemonic in ("ori", "addi")
            return is_immediate and all(instruction.word & bit & space.on for bit in space.bits)
    return False


def untranslated(
    sections: Sequence[tuple[int, Words]], vectors: Iterable[int], space: KernelSpace
) -> set[int]:
    """Return the addresses reached from exception vectors before translation is surely on again.

    ``sections`` are (address, words). Branches, calls and what follows them are entered; a path
    ends at rfi, at a return, at an indirect branch and where mtmsr turns it on.
    """
    found: set[int] = set()
    pending = list(vectors)
    while pending:
        address = pending.pop()
        recent: list[Instruction] = []
        while address not in found:
            word = _word_at(sections, address)
            if word is None or (instruction := decode(word, address)).kind is Kind.UNKNOWN:
                break
            found.add(address)
            if instruction.target is not None:
                pending.append(instruction.target)
            if instruction.mnemonic == "mtmsr" and _enables(recent, instruction, space):
                break
            if instruction.kind.transfers and not instruction.conditional:
                break
            recent.append(instruction)
            address += 4
    return found
