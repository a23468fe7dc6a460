"""Find what a kernel looks up or rewrites in a loaded module's code: in its data, by the looks of the tables.

Where they begin and end is not known. Whatever could be an entry of one counts as one: a pair of places in
the module's code is a fix-up or a jump label, as the first of them holds an instruction that may fault or
one that is switched; a place with a nop or a call is an entry of ftrace's where the data names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.effects import may_fault
from kgdbpatch.image import Section
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import decode_array
from kgdbpatch.personality.base import Window

__all__ = ["module_tables"]

_NOP, _JUMP, _CALL = encode.nop(), 0x4800_0000, 0x4800_0001
_NO_CALL = (
    _NOP,
    0x3860_0000,
    0x4E80_0020,
)  # nop, li r3,0, blr: in place of a static call
_OPCODE = 0xFC00_0003

Addresses = npt.NDArray[np.int64]


def module_tables(
    code: Window,
    words: npt.NDArray[np.uint32],
    data: Sequence[tuple[int, bytes]],
    *,
    distances: bool,
    at: int,
    others: Sequence[Window] = (),
) -> list[Section]:
    """Return sections with the tables of a module whose ``code`` has ``words``, called as Linux calls them.

    ``data`` is (address, bytes) of its other memory, ``others`` where the kernel's own data is; ``distances``
    tells whether the kernel's tables hold distances from where they stand, or else addresses. The sections
    are made up: they lie at ``at``.
    """
    jumps = [np.zeros((0, 2), np.int64)]
    others = [*others, *(Window(address, address + len(held)) for address, held in data)]
    places, pairs, calls = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
    for address, held in data:
        skipped = -address % 4
        raw = np.frombuffer(held, ">i4", (len(held) - skipped) // 4, skipped).astype(np.int64)
        own = address + skipped + 4 * np.arange(raw.size, dtype=np.int64)
        inside = _inside(code, raw & 0xFFFF_FFFF)
        places.append((raw & 0xFFFF_FFFF)[inside])
        near = (raw + own) & 0xFFFF_FFFF
        named = np.flatnonzero(_inside(code, near[:-1]) & _in_any(others, near[1:] & ~3))
        calls.append(np.stack((near[named], near[named + 1]), axis=1))
        jumps += [
            _both(code, near),
            _both(code, raw & 0xFFFF_FFFF, alone=distances),
        ]  # fix-ups had distances first
        pairs.append(_both(code, near if distances else raw & 0xFFFF_FFFF))
    named, two = np.unique(np.concatenate(places)), np.unique(np.concatenate(pairs), axis=0)
    static = np.unique(np.concatenate(calls), axis=0)
    kind = words & np.uint32(_OPCODE)
    switched = (words == _NOP) | (kind == _JUMP)
    faulting = may_fault(decode_array(words)) & (words != _NOP)
    faults = two[faulting[(two[:, 0] - code.start) // 4]]
    two = np.unique(np.concatenate(jumps), axis=0)
    labels = two[switched[(two[:, 0] - code.start) // 4]]
    traced = named[((words == _NOP) | (kind == _CALL))[(named - code.start) // 4]]
    called = words[(static[:, 0] - code.start) // 4]
    static = static[np.isin(called, _NO_CALL) | (called & np.uint32(_OPCODE & ~1) == _JUMP)]
    keys = np.zeros((len(labels), 1), np.int64)
    tables: dict[str, Addresses] = {
        "__ex_table": faults,
        "__jump_table": np.concatenate((labels, keys), axis=1),
        "__mcount_loc": traced.reshape(-1, 1),
        ".static_call_sites": static,
    }
    sections = []
    for name, rows in tables.items():
        stands = at + 4 * np.arange(rows.size, dtype=np.int64)
        held = (rows.reshape(-1) - stands).astype(">i4").tobytes()
        sections.append(Section(name, at, len(held), held, False, False))
        at += len(held)
    return sections


def _both(code: Window, places: Addresses, *, alone: bool = False) -> Addresses:
    """Return the pairs of places one behind the other that are both in the code, ``alone`` of all around."""
    good = _inside(code, places)
    pair = good[:-1] & good[1:]
    if alone:  # ftrace's entries and functions' addresses stand in longer rows
        pair[1:] &= ~good[:-2]
        pair[:-1] &= ~good[2:]
    first = np.flatnonzero(pair)
    return np.stack((places[first], places[first + 1]), axis=1)


def _in_any(windows: Iterable[Window], places: Addresses) -> npt.NDArray[np.bool_]:
    found = np.zeros(places.shape, np.bool_)
    for window in windows:
        found |= (places >= window.start) & (places < window.end)
    return found


def _inside(code: Window, places: Addresses) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = (places >= code.start) & (places < code.end) & (places & 3 == 0)
    return found
