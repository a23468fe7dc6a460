"""Delimit functions from a symbol table (paper, section 3.2.1).

A function begins at a *primary* symbol and ends at the next primary symbol of its section, at the
section's end, or where its own size says. Symbols at the same address are aliases of one function.
What is primary:

Mach-O
    a symbol whose name begins with ``_``; in ``__VECTORS,__interrupts`` also one that begins with
    ``.L_``. Others are labels inside a function.

ELF
    a symbol of type FUNC, or one without a type in an executable section: that is how assembler
    routines and exception vectors of Linux look, and what objdump heads its listings with. One of
    the latter that lies *inside* a sized function is a label of it (objdump would cut there; a
    user would not recognise the halves), and so are ``.L…`` and mapping symbols ``$x``.

A marker of the linker such as ``_etext`` at a section's end covers no word and is no function;
neither is one without a size that covers nothing but zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.image.model import Section
from kgdbpatch.image.symbols import FunctionTable, SymbolTable

__all__ = ["delimit"]

_NEVER = (".L", "$")

_Numbers = npt.NDArray[np.int64]


class _Found(NamedTuple):
    """Functions: places, sizes in bytes, and the numbers of their symbols, ``many`` of each."""

    address: _Numbers
    size: _Numbers
    many: _Numbers
    symbols: _Numbers


def delimit(symbols: SymbolTable, sections: Sequence[Section], *, labels: bool = False) -> FunctionTable:
    """Return the functions, sorted by address, that the symbols of kind ``function`` delimit.

    With ``labels`` also those outside sized functions (ELF). The first symbol of an address names it.
    """
    address, size = symbols.places()
    names, aligned = symbols.names.all(), address & 3 == 0
    primary = aligned & symbols.of_kind("function")
    if labels:
        some = np.flatnonzero(aligned & symbols.of_kind("label")).tolist()
        primary[[number for number in some if not names[number].startswith(_NEVER)]] = True
    parts, owners = [_Found(*(np.zeros(0, np.int64),) * 4)], list[str]()
    for section in sections:
        if section.executable:
            inside = (address >= section.address) & (address < section.end)
            own = np.flatnonzero(primary & inside & symbols.of_section(section.name))
            parts.append(_in_section(own, address[own], size[own], section))
            owners += [section.name] * len(parts[-1].address)
    address, size, many, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(address, kind="stable")
    first = np.cumsum(many) - many
    by_symbol = [names[number] for number in numbers.tolist()]
    groups = (
        by_symbol[begin : begin + count]
        for begin, count in zip(first[order].tolist(), many[order].tolist(), strict=True)
    )
    called = [group if len(group) == 1 else [group[0], *dict.fromkeys(group[1:])] for group in groups]
    return FunctionTable.of_columns(
        called, address[order], size[order], [owners[at] for at in order.tolist()]
    )


def _in_section(symbols: _Numbers, address: _Numbers, size: _Numbers, section: Section) -> _Found:
    """Return the functions of a section, given what is primary in it."""
    if not len(symbols):
        return _Found(address, size, size, symbols)
    order = np.argsort(address, kind="stable")  # the order given decides among aliases
    symbols, address = symbols[order], address[order]
    first = np.flatnonzero(np.append(True, address[1:] != address[:-1]))
    many = np.diff(np.append(first, len(symbols)))
    start, size = address[first], np.maximum.reduceat(size[order], first)
    # up to there sized functions before reach
    covered = np.maximum.accumulate(np.append(section.address, start + size))[:-1]
    kept = (size > 0) | (start >= covered)
    start, size = start[kept], size[kept]
    following = np.append(start[1:], section.end)
    end = np.where(size > 0, np.minimum(start + size, section.end), following)
    end -= (end - start) & 3
    good = end > start
    for number in np.flatnonzero(good & (size == 0)).tolist():
        good[number] = any(section.data[start[number] - section.address : end[number] - section.address])
    kept[kept] = good
    return _Found(start[good], (end - start)[good], many[kept], symbols[np.repeat(kept, many)])
