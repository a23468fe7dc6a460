"""Find where indirect branches go: jump tables, numbers put into CTR, tail calls through pointers.

A jump table is accepted when its place is a number, its length follows from a comparison that
guards the branch (or from the width of the index), and all entries lie in the function. Entries
are addresses, or distances from a base (gcc's and Apple gcc's relative tables).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kgdbpatch.analysis.address_taken import references
from kgdbpatch.analysis.arrays import distinct, marked
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.path_slices import Path, Resolver, Search
from kgdbpatch.analysis.program import Flags, Indices, stored_addresses
from kgdbpatch.analysis.regset import RegSet
from kgdbpatch.analysis.symbolic import Expression, terms
from kgdbpatch.isa.decode import Kind

__all__ = ["Indirect", "resolve"]

_NOP, _BCTRL, _BLRL = 0x60000000, 0x4E800421, 0x4E800021


@dataclass
class Indirect:
    """Where the indirect branches of a program go, by address.

    ``tables`` has all targets of each jump through a table, ``constants`` the single target of
    branches and calls to a number, ``pointers`` the tail calls through pointers. ``looks_like_table``
    are the branches whose target is loaded by a scaled index, resolved or not; ``unresolved`` is
    the rest: anything may happen there. ``places`` says where the tables are, (address, entries);
    those of unresolved branches end where the next word can be no entry: ``supposed`` has the
    targets in them, which the branch may have, besides others. ``held`` has the addresses that stand in
    memory at first where a call or tail call takes its target from a known place.
    """

    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[int, int] = field(default_factory=dict)
    pointers: set[int] = field(default_factory=set)
    looks_like_table: set[int] = field(default_factory=set)
    unresolved: set[int] = field(default_factory=set)
    places: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    supposed: dict[int, tuple[int, ...]] = field(default_factory=dict)
    held: dict[int, set[int]] = field(default_factory=dict)

    @property
    def bounds(self) -> list[int]:
        """Where tables begin and end."""
        every = {place for places in self.places.values() for place in places}
        return sorted({at for place, entries in every for at in (place, place + 4 * entries)})


def _is_indexed(value: Expression) -> bool:
    """Tell whether a target is made of a loaded distance and a base, or loaded by a scaled index."""
    parts = terms(value)[1]
    loads = [part for part in parts if part[0] == "load"]
    if loads and len(parts) > 1:
        return True
    return any(part[0] == "shl" and part[2] == 2 for load in loads for part in terms(load[1])[1])  # type: ignore[arg-type]


class _Loose:
    """Which functions have code that no known edge leads to, so that an indirect branch may."""

    def __init__(self, blocks: Blocks, tables: dict[int, tuple[int, ...]], stored: Flags) -> None:
        program = blocks.program
        loose = blocks.unreached.copy()
        targets = np.array([t for found in tables.values() for t in found], dtype=np.int64)
        loose[blocks.of_word[program.index_of(targets)]] = False
        words = program.words[blocks.first]
        loose &= (words != _NOP) & (program.decoded.kind[blocks.first] != Kind.UNKNOWN)
        loose &= ~blocks.indirect  # a branch does not go to where it stands
        self._by_function: dict[int, list[int]] = {}
        for block in np.flatnonzero(loose).tolist():
            start = int(program.address[blocks.first[block]])
            self._by_function.setdefault(int(blocks.owner[block]), []).append(start)
        self._program = program
        held = stored.copy()
        held[program.entry] = False
        held[program.index_of(targets)] = False
        self._held = set(program.function[held].tolist())

    def has(self, function: int) -> bool:
        """Tell whether a function has any such code, or memory holds the address of a place within it.

        Where computed gotos lead control may come otherwise as well.
        """
        return function in self._by_function or function in self._held

    def has_address(self, function: int) -> bool:
        """Tell whether the function may make the address of such code, or memory holds one within it."""
        if function in self._held:
            return True
        places = np.array(self._by_function.get(function, ()), dtype=np.int64)
        if not len(places):
            return False
        program = self._program
        words = program.words[program.entry[function] : program.end[function]]
        major = words >> np.uint32(26)
        made = set((words[(major == 14) | (major == 24)] & np.uint32(0xFFFF)).tolist())
        return any(place & 0xFFFF in made for place in places.tolist())


def _is_plain_load(value: Expression) -> bool:
    """Tell whether a target is loaded from a fixed place or a fixed offset of one pointer."""
    if value[0] != "load":
        return False
    parts = terms(value[1])[1]  # type: ignore[arg-type]
    return not parts or (len(parts) == 1 and parts[0][0] in ("in", "load", "at"))


def _may_call_known(blocks: Blocks, functions: Indices, makes: Flags) -> list[int]:
    """Return the calls through CTR or LR of which the target may be found; see `_makes_number`."""
    program = blocks.program
    last = program.words[blocks.last]
    calls = blocks.unknown_call & ((last == _BCTRL) | (last == _BLRL))
    makers = np.zeros(len(program.entry), dtype=np.bool_)
    makers[functions] = True
    return np.flatnonzero(calls & (makes | makers[blocks.owner])).tolist()


def _changeable(blocks: Blocks, resolver: Resolver, search: Search, stored: Flags) -> list[int]:
    """Return the branches through tables of addresses to which others may be added while the program runs.

    Such addresses are of the same function, and it makes them, or memory holds them outside of its tables.
    """
    program = blocks.program
    tables = [block for block in search.targets if block in resolver.absolute]
    if not tables:
        return []
    functions = distinct(blocks.owner[tables])
    some = marked(len(program.entry), functions).take(blocks.owner)
    some[blocks.entry[functions]] = False
    known = np.array([at for targets in search.targets.values() for at in targets], dtype=np.int64)
    some[blocks.of_word[program.index_of(known)]] = False
    first = blocks.first[some]
    places = {place for block in search.targets for place in resolver.places[block]}
    for place, entries in sorted(places):  # the address of a table is made, too
        first = first[(program.address[first] < place) | (program.address[first] >= place + 4 * entries)]
    function, number = references(program, program.address[first])
    changing = set(program.function[first[stored[first]]].tolist())
    changing |= set(function[function == program.function[first[number]]].tolist())
    return [block for block in tables if int(blocks.owner[block]) in changing]


def _makes_number(blocks: Blocks) -> Flags:
    """Tell which blocks make a number of nothing else: li, lis, or bcl to learn the PC."""
    words, function = blocks.program.words, blocks.program.function
    makes = ((words & np.uint32(0xF81F0000)) == 0x38000000) | ((words & np.uint32(0xFC000003)) == 0x40000001)
    return marked(len(blocks.first), blocks.of_word[np.flatnonzero(makes & (function >= 0))])


def resolve(
    blocks: Blocks,
    changes: RegSet,
    data: Sequence[tuple[int, bytes]],
    stored: Flags | None = None,
    makers: Indices | None = None,
) -> Indirect:
    """Find where the indirect branches go; ``changes`` are the sets of what the words change.

    ``data`` is (address, bytes) of whatever may hold tables; ``stored``, what `stored_addresses` finds
    there; ``makers`` are the functions that make addresses of functions (see `references`). ``blocks`` must
    have been cut where implicit edges go, if those are known; tables are not needed for that.
    """
    resolver, program = Resolver(blocks, changes, data), blocks.program
    found = Indirect()
    search = Search(resolver)
    values: dict[int, Expression | None] = {}
    tried = []
    for block in np.flatnonzero(blocks.indirect).tolist():
        value, _ = resolver.value(Path((block,), ()))
        values[block] = value
        if value is not None and value[0] not in ("const", "in"):
            tried.append(block)
    search.run(tried)
    stored = stored_addresses(program, data) if stored is None else stored
    for block in _changeable(blocks, resolver, search, stored):
        del search.targets[block]
        resolver.loaded.setdefault(block, {}).update(resolver.absolute[block])
    addresses = {block: int(program.address[blocks.last[block]]) for block in values}
    found.tables = {addresses[block]: targets for block, targets in search.targets.items()}
    for block, places in resolver.places.items():
        if block in search.targets:
            found.places[addresses[block]] = tuple(sorted(places))
    loose = _Loose(blocks, found.tables, stored)
    for block, value in values.items():
        address, function = addresses[block], int(blocks.owner[block])
        if address in found.tables or (value is not None and _is_indexed(value)):
            found.looks_like_table.add(address)
        if address in found.tables:
            continue
        if value is not None and value[0] == "const":
            found.constants[address] = int(value[1])  # type: ignore[call-overload]
        elif value is None or value[0] in ("in", "at", "load"):
            plain = value is not None and _is_plain_load(value)
            stays = loose.has_address(function) if plain else loose.has(function)
            (found.unresolved if stays else found.pointers).add(address)
        else:
            found.unresolved.add(address)
    makes = _makes_number(blocks)
    blocks_at = {address: block for block, address in addresses.items()}
    for address in found.unresolved:
        tables = resolver.suppose(int(program.function[program.at(address)]))
        supposed = {(place, len(targets)): targets for place, targets in tables.items()}
        supposed |= resolver.loaded.get(blocks_at[address], {})
        found.places[address] = tuple(sorted(supposed))
        found.supposed[address] = tuple(sorted({at for targets in supposed.values() for at in targets}))
    for block in _may_call_known(blocks, references(program)[0] if makers is None else makers, makes):
        word = int(program.words[blocks.last[block]])
        number, held = resolver.target(block, by_lr=word != _BCTRL)
        if number is not None:
            found.constants[int(program.address[blocks.last[block]])] = number
        found.held[int(program.address[blocks.last[block]])] = held
    for address in found.pointers:
        block = blocks_at[address]
        found.held[address] = resolver.target(block, by_lr=False)[1] if makes[block] else set()
    return found
