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

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from kgdbpatch.image.model import Function, Section, Symbol

__all__ = ["delimit"]

_address = attrgetter("address")
_NEVER = (".L", "$")


def delimit(
    symbols: Iterable[Symbol], sections: Sequence[Section], *, labels: bool = False
) -> tuple[Function, ...]:
    """Return the functions, sorted by address, that the symbols of kind ``function`` delimit.

    With ``labels`` also those outside sized functions (ELF). The first symbol of an address names it.
    """
    by_section: defaultdict[str, list[Symbol]] = defaultdict(list)
    for symbol in symbols:
        name, address, _, owner, kind, _ = symbol
        if address & 3:
            continue
        if kind == "function" or (labels and kind == "label" and not name.startswith(_NEVER)):
            by_section[owner].append(symbol)
    found: list[Function] = []
    for section in sections:
        if section.executable and section.name in by_section:
            found.extend(_in_section(by_section[section.name], section))
    found.sort(key=_address)
    return tuple(found)


def _in_section(symbols: list[Symbol], section: Section) -> Iterator[Function]:
    first, behind = section.address, section.end
    groups: defaultdict[int, list[Symbol]] = defaultdict(list)  # the order given decides among aliases
    for symbol in symbols:
        if first <= symbol[1] < behind:
            groups[symbol[1]].append(symbol)
    starts: list[tuple[int, int, list[str]]] = []
    covered = first  # up to here a sized function reaches
    for address, group in sorted(groups.items()):
        size = group[0].size if len(group) == 1 else max(s.size for s in group)
        if not size and address < covered:
            continue
        covered = max(covered, address + size)
        starts.append((address, size, [s.name for s in group]))
    if not starts:
        return
    ends = [start[0] for start in starts[1:]] + [behind]
    for (address, size, names), following in zip(starts, ends, strict=True):
        end = min(address + size, behind) if size else following
        end -= (end - address) & 3
        if end <= address or (not size and not any(section.data[address - first : end - first])):
            continue
        aliases = tuple(dict.fromkeys(names[1:])) if len(names) > 1 else ()
        yield Function(names[0], address, end - address, aliases, section.name)
