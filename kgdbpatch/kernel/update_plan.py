"""Plan an update for one kernel: its code linked, a splice for each function, a write for each word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kgdbpatch.component.notes import Note
from kgdbpatch.errors import BadPatch, Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.kernel.planner import Planned, Planner
from kgdbpatch.patch.planned import UPDATE, First, Plan
from kgdbpatch.patch.updated import CODE_ROOM, carrier, follower
from kgdbpatch.toolchain.link import Linked, link
from kgdbpatch.updates.archive import Update
from kgdbpatch.updates.elf_object import ALLOC, ElfObject
from kgdbpatch.updates.linkable import BUG_LOOKUP, FAULT_LOOKUP, NEXT_BUG, NEXT_LOOKUP, has_table, linkable
from kgdbpatch.updates.manifest import Data, Manifest
from kgdbpatch.updates.originals import Originals

__all__ = ["PlannedUpdate", "Row", "UpdatePlanner", "check_decided"]

Row = tuple[int, int, str]  # start, end, name of a function
_FUNCTION = 2  # STT_FUNC
_LINUX_FAULTS = "search_exception_tables"  # kernel/extable.c
_LINUX_BUGS = "find_bug"  # lib/bug.c


class PlannedUpdate(NamedTuple):
    """An update as it is to be put in: its callbacks by name, the functions that nobody may be in."""

    planned: Planned
    calls: dict[str, int]
    old: list[Row]
    first: First | None  # its init calls


def check_decided(manifest: Manifest, accepted: frozenset[str]) -> None:
    """Raise `Refused` (rule ``undecided``) unless all that a person has to decide is decided or accepted."""
    unknown = accepted - {one.id for one in manifest.decision} - {"all"}
    if unknown:
        raise Misuse(f"the update asks nothing of the name '{min(unknown)}'")
    left = [one for one in manifest.decision if not one.decided and one.id not in accepted]
    if left and "all" not in accepted:
        more = f" (and {len(left) - 1} more)" if left[1:] else ""
        raise Refused("undecided", f"to be decided first: {left[0].id}: {left[0].text}{more}; see --accept")


class UpdatePlanner:
    """Makes the plans of one update; ``word(address)`` is the running kernel's word of data there."""

    def __init__(
        self,
        update: Update,
        path: Path,
        image: Image,
        planner: Planner,
        target: str,
        word: Callable[[int], int],
        names: Mapping[str, tuple[int, str]],
    ) -> None:
        """``names`` are those of updates that stand: address, and whose."""
        self._manifest, self._path = update.manifest, path
        self._image, self._planner, self._word = image, planner, word
        self._originals = Originals(image, update.manifest)
        compiled = linkable(update, path, target)
        self._faults, self._bugs = (has_table(update, name) for name in ("__ex_table", "__bug_table"))

        sections = ElfObject.parse(compiled.data, str(path)).sections
        size = sum(section.size for section in sections if section.flags & ALLOC)

        @cache
        def linked(address: int) -> Linked:
            if address + size > 1 << 32:
                raise Refused("reach", f"the update's {size} bytes do not fit behind 0x{address:08x}")

            def lookup(symbol: str) -> int:
                if symbol == NEXT_LOOKUP:
                    return address - CODE_ROOM  # what was at the first function's site
                if symbol in names and not image.knows(symbol):
                    self.uses.add(names[symbol][1])
                    return names[symbol][0]
                return planner.lasting(self._originals.lookup(symbol))

            return link(compiled, address, lookup, abi=SYSV, kernels=True)  # as the kernel calls itself

        self._linked = linked
        self.uses: set[str] = set()  # the updates whose names it needs
        parsed = (ElfObject.parse(data, str(path)) for data in update.objects.values())
        symbols = [symbol for elf in parsed for symbol in elf.symbols if symbol.section > 0 and symbol.name]
        self._sizes = {symbol.name: symbol.size for symbol in symbols if symbol.kind == _FUNCTION}
        self._names = sorted(symbol.name for symbol in symbols if not symbol.local and ":" not in symbol.name)

    def plan(self, values: dict[str, Any], file: bytes) -> PlannedUpdate:
        """Plan all of it; ``values`` and the ``file`` are noted in the guest.

        Raises `Refused` where the kernel is another one, or a rule forbids it.
        """
        rows = [(self._originals.function(row), row) for row in self._manifest.function]
        functions = [(address, row.symbol) for address, row in rows]
        if self._faults or self._bugs:
            functions.insert(0, (self._lookup(_LINUX_FAULTS), FAULT_LOOKUP))
        if self._bugs:
            functions.append((self._lookup(_LINUX_BUGS), BUG_LOOKUP))
        words = [word for row in self._manifest.data if row.kind == "write" for word in self._words(row)]
        if not functions and not words:
            raise BadPatch(f"{self._path}: replaces nothing and writes nothing")
        values |= {
            "count": len(functions) + len(words),
            "functions": [row.name for _, row in rows],
            "data": sorted({row.name for row, _, _ in words}),
            "new": [name.rpartition(":")[2] for name in sorted(self._sizes)],
            "calls": sorted(self._calls),
            "names": self._names,
        }
        trial = self._linked(self._planner.place(0))  # to know whose names it needs
        values["uses"] = sorted(self.uses)
        values["ends"] = 0 if trial.init_calls is None else 1 + len(trial.last)

        def front(code: int) -> bytes:
            linked = self._linked(code).symbols
            spans = [(linked[name], linked[name] + size) for name, size in sorted(self._sizes.items())]
            calls = [linked[symbol] for _, symbol in sorted(self._calls.items())]
            own = [linked[name] for name in self._names]
            own += _ends(self._linked(code))
            return Note(values, [*(at for span in spans for at in span), *calls, *own], file).packed()

        count = 2 * len(self._sizes) + len(self._calls) + len(self._names) + values["ends"]
        size = len(Note(values, [0] * count, file).packed())

        def note(body: int) -> bytes:
            return front(body + size + CODE_ROOM)

        def code(at: int) -> tuple[bytes, int]:
            linked = self._linked(at)
            return linked.code, linked.constant_size

        def blob(body: int) -> tuple[bytes, int]:
            code, constant = self._linked(body + size).code, self._linked(body + size).constant_size
            return front(body + size) + code, size + constant

        planned: Planned = []
        if functions:
            address, symbol = functions[0]
            abi = self._image.abi
            first = carrier(note, size, code, lambda at: self._linked(at).symbols[symbol], abi)
            planned.append(self._planner.plan_function(address, first))
            base = planned[0][1].body + size + CODE_ROOM
        else:
            base = self._planner.place(size) + size  # as `blob` has it
            data, at, offset = words[0]
            after = self._new(self._linked(base), data, offset)
            planned.append(self._planner.plan_data(at, self._word(at), after, blob))
            assert planned[0][1].body + size == base
        planned[0] = (planned[0][0], planned[0][1]._replace(guard=UPDATE))
        linked = self._linked(base)
        for address, function in functions[1:]:
            payload = follower(linked.symbols[function], self._image.abi)
            planned.append(self._planner.plan_function(address, payload))
        if self._bugs:
            planned[0] = self._filled_in(planned, linked, base)
        for data, at, offset in words[0 if functions else 1 :]:
            planned.append(self._planner.plan_data(at, self._word(at), self._new(linked, data, offset)))
        calls = {name: linked.symbols[symbol] for name, symbol in self._calls.items()}
        old = [(at, at + row.size, row.name) for at, row in rows]
        stage = _ends(linked)[:1]
        init_calls = First(linked.first, stage[0]) if linked.first else None
        return PlannedUpdate(planned, calls, old + self._quiet(), init_calls)

    def _lookup(self, name: str) -> int:
        """Return the kernel's function that looks up a fault or a bug; raise `Refused`."""
        if not self._image.knows(name):
            told = f"the update's code may fault or warn, and this kernel has no {name} to tell it by"
            raise Refused("fault table", told)
        return self._image.lookup(name)

    def _filled_in(self, planned: Planned, linked: Linked, base: int) -> tuple[int, Plan]:
        """Return the first plan with what the kernel's lookup of bugs is called by: the last one's body."""
        slot, first = planned[0]
        at = base - first.body + linked.symbols[NEXT_BUG] - linked.address
        word = planned[-1][1].body.to_bytes(4, "big")
        return slot, first._replace(code=first.code[:at] + word + first.code[at + 4 :])

    @property
    def _calls(self) -> dict[str, str]:
        return {name: symbol for name, symbol in asdict(self._manifest.callbacks).items() if symbol}

    def _quiet(self) -> list[Row]:
        found = []
        for name in self._manifest.quiet:
            function = self._image.function_at(self._image.resolve(name))
            if function is not None:
                found.append((function.address, function.end, function.name))
        return found

    def _words(self, row: Data) -> list[tuple[Data, int, int]]:
        """Return (data, address, offset) of the words of data that are written over.

        Raises `Refused` (rule ``expected``) where the kernel has another word there than the update knows.
        """
        start, found = self._originals.data(row), []
        for number, offset in enumerate(row.offsets):
            before = int(row.before[8 * number : 8 * number + 8], 16)
            now = self._word(start + offset)
            if before and before != now and self._planner.active_at(start + offset) is None:
                raise Refused(
                    "expected",
                    f"{row.name}+0x{offset:x} is 0x{now:08x}, not 0x{before:08x} as it was built: the kernel "
                    "has changed it",
                    start + offset,
                )
            found.append((row, start + offset, offset))
        return found

    def _new(self, linked: Linked, row: Data, offset: int) -> int:
        start = linked.symbols[row.symbol] - linked.address + offset
        return int.from_bytes(linked.code[start : start + 4], "big")


def _ends(linked: Linked) -> list[int]:
    """Return the address of the word that tells how far a payload is, then those of its exit calls."""
    if linked.init_calls is None:
        return []
    return [linked.address + linked.init_calls.stage, *linked.last]
