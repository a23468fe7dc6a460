"""Of one source's two objects, choose what goes into an update, and say what of the kernel it needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kgdbpatch.errors import BadPatch
from kgdbpatch.updates.decisions import data_decision, is_init
from kgdbpatch.updates.elf_object import ALLOC, CODE, NOBITS, WRITE
from kgdbpatch.updates.init_rows import init_rows, is_init_table
from kgdbpatch.updates.manifest import Data, Decision, Function, Reference
from kgdbpatch.updates.object_diff import Difference
from kgdbpatch.updates.object_writer import Fixup, OutSection, OutSymbol
from kgdbpatch.updates.pieces import REL24, Kind, Outside, Piece, Pieces, Within
from kgdbpatch.updates.pieces import Reference as Use

__all__ = ["Selection"]

_TRACER = "_mcount"
_NOP = (0x60000000).to_bytes(4, "big")
_PART = re.compile(r"\.cold(\.\d+)?$")
_FUNCTION_NAMES = re.compile(r"__(func|FUNCTION|PRETTY_FUNCTION)__\.\d+$")
_BRANCHES = {2, REL24, 18, 23, 7, 8, 9, 11, 12, 13}
_WORD = 1  # R_PPC_ADDR32
_TABLE_ROWS = {"__ex_table": 8, "__jump_table": 12, ".static_call_sites": 8, "__bug_table": 12}


@dataclass
class Selection:
    """What of a source's object with the patch goes into the update.

    ``tree`` is the object that the running kernel was linked from.
    """

    difference: Difference
    tree: Pieces
    file: str
    module: str = ""
    sections: list[OutSection] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    included: set[int] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)  # global symbols that are needed
    _written: dict[int, list[int]] = field(default_factory=dict)  # data to be written over: words that differ
    _constants: dict[bytes, int] = field(default_factory=dict)

    def choose(self) -> None:
        """Choose the pieces: what is changed, with all that is new and that they need."""
        difference, after = self.difference, self.difference.after
        for piece in difference.of(difference.changed, Kind.DATA):
            self._changed_data(piece)
        for piece in difference.of(difference.changed, Kind.FUNCTION):
            if not is_init(piece):
                self._include(piece.number)
        for piece in difference.of(difference.new, Kind.FUNCTION):
            if not piece.local and not is_init(piece):
                self._include(piece.number)
        rows = [*init_rows(difference)]
        for _, use in rows:
            assert isinstance(use.target, Within)
            if self._goes_along(after.all[use.target.piece]):
                self._include(use.target.piece)
        for number in sorted(self.included):
            self._write(after.all[number])
        self._tables()
        for table, use in rows:
            self._init_call(table, use)
        if self._constants:
            self._write_constants()

    # ---- what goes along ------------------------------------------------------------------------------

    def _include(self, number: int) -> None:
        waiting = [number]
        while waiting:
            number = waiting.pop()
            if number in self.included:
                continue
            self.included.add(number)
            piece = self.difference.after.all[number]
            for use in piece.references:
                if isinstance(use.target, Within) and self._goes_along(
                    self.difference.after.all[use.target.piece]
                ):
                    waiting.append(use.target.piece)

    def _goes_along(self, piece: Piece) -> bool:
        if piece.kind is Kind.NAMELESS or piece.number not in self.difference.pairs:
            return True
        return bool(_PART.search(piece.name) or _FUNCTION_NAMES.match(piece.name))

    def _changed_data(self, piece: Piece) -> None:
        old = self.difference.counterpart(piece)
        assert old is not None  # it is changed, not new
        if is_init(piece) or _FUNCTION_NAMES.match(piece.name):
            return
        words = self._differing(old, piece) if old.size == piece.size and piece.size % 4 == 0 else []
        table = any(use.kind == _WORD for use in piece.references)
        decision = data_decision(old, piece, table, len(words), self.file)
        if old.size == piece.size and not words:
            text = f"{piece.name} ({self.file}) differs in more than words: the change does not go along"
            decision = Decision(decision.id, decision.kind, text)
        self.decisions.append(decision)
        if words:
            self._written[piece.number] = words
            self._include(piece.number)

    def _differing(self, old: Piece, new: Piece) -> list[int]:
        def words(piece: Piece, name: Callable[[Use], object]) -> list[object]:
            found: list[object] = [piece.data[at : at + 4] for at in range(0, piece.size, 4)]
            for use in piece.references:
                found[use.offset // 4] = (found[use.offset // 4], use.kind, name(use))
            return found

        def was(use: Use) -> object:
            return ("before", *use.target) if isinstance(use.target, Within) else use.target

        def now(use: Use) -> object:
            target = use.target
            if not isinstance(target, Within):
                return target
            known = self.difference.pairs.get(target.piece)
            return ("after" if known is None else "before", known or target.piece, target.addend)

        old_words, new_words = words(old, was), words(new, now)
        return [
            4 * at for at, pair in enumerate(zip(old_words, new_words, strict=True)) if pair[0] != pair[1]
        ]

    # ---- names ----------------------------------------------------------------------------------------

    def _symbol(self, piece: Piece) -> str:
        """Return what a piece that goes along is called in the object."""
        own = piece.local or piece.number in self._written
        return f"{self.file}:{piece.name}" if own else piece.name

    def _original(self, piece: Piece) -> Piece:
        """Return what the tree's own object has for a piece that the kernel has."""
        old = self.difference.counterpart(piece) or piece
        found = self.tree.by_name.get(old.name)
        if found is None or found.kind is not piece.kind:
            raise BadPatch(
                f"{self.file}: the tree's own object has no {piece.kind} {old.name}: it was compiled with "
                "other options or by another compiler than is here now"
            )
        return found

    def _of_kernel(self, piece: Piece) -> str:
        """Return the symbol that stands in the object for what the kernel has."""
        if self.tree.is_common(piece.name):
            self.outside.add(piece.name)
            return piece.name
        original = self._original(piece)
        if not original.local and piece.number not in self.included:
            self.outside.add(original.name)
            return original.name
        symbol = f"kernel:{self.file}:{original.name}"
        self.references[symbol] = Reference(symbol, original.name, self.file, self.module, original.local)
        return symbol

    # ---- writing --------------------------------------------------------------------------------------

    def _write(self, piece: Piece) -> None:
        section, symbol = piece.section, self._symbol(piece)
        name = section.name if section.name.endswith(piece.name) else f"{section.name}.{piece.name}"
        if section.flags & CODE:  # whatever the kernel gathers such code for
            name = f".text.{piece.name}"
        data, fixups = bytearray(piece.data), []
        for use in piece.references:
            if use.target == Outside(_TRACER, 0) and use.kind == REL24:
                data[use.offset : use.offset + 4] = _NOP  # as the kernel does when it starts
            else:
                fixups.append(self._fixup(use))
        kind = 2 if piece.kind is Kind.FUNCTION else 1
        local = piece.kind is Kind.NAMELESS
        out = OutSymbol(symbol, 0, piece.size, kind, local)
        flags = section.flags & (WRITE | ALLOC | CODE)
        size = len(data) or piece.size
        bits = NOBITS if section.kind == NOBITS else 1
        align = max(section.align, 4) if kind == 2 else max(section.align, 1)
        self.sections.append(OutSection(name, flags, align, bytes(data), size, [out], fixups, bits))
        self._tell(piece, symbol)

    def _fixup(self, use: Use, shift: int = 0) -> Fixup:
        target = use.target
        if isinstance(target, Outside) and self.difference.after.is_empty(target.name):
            target = bytes(4)  # an address that nothing is at: any will do
        if isinstance(target, bytes):
            return Fixup(use.offset + shift, use.kind, f"{self.file}:constants", self._constant(target))
        if isinstance(target, Outside):
            self.outside.add(target.name)
            return Fixup(use.offset + shift, use.kind, target.name, target.addend)
        piece = self.difference.after.all[target.piece]
        mine = target.piece in self.included and target.piece not in self._written
        if mine and piece.kind is Kind.FUNCTION and target.piece in self.difference.pairs:
            # the address of a function that is replaced stays what the kernel knows
            mine = use.kind in _BRANCHES or target.addend != 0 or bool(_PART.search(piece.name))
        name = self._symbol(piece) if mine else self._of_kernel(piece)
        return Fixup(use.offset + shift, use.kind, name, target.addend)

    def _constant(self, data: bytes) -> int:
        if data not in self._constants:
            end = max((at + len(known) for known, at in self._constants.items()), default=0)
            align = len(data) if len(data) in (8, 16) else 4
            self._constants[data] = end + -end % align
        return self._constants[data]

    def _write_constants(self) -> None:
        data = bytearray()
        for constant, at in self._constants.items():
            data += bytes(at - len(data)) + constant
        symbol = OutSymbol(f"{self.file}:constants", 0, len(data), 1, True)
        self.sections.append(OutSection(".rodata.constants", ALLOC, 16, bytes(data), len(data), [symbol]))

    def _tables(self) -> None:
        """Take along the rows about included functions of tables that the kernel walks."""
        for table in self.difference.after.all:
            row = _TABLE_ROWS.get(table.section.name)
            if table.kind is not Kind.TABLE or row is None or table.size % row:
                continue
            out = OutSection(table.section.name, table.section.flags & (WRITE | ALLOC), 4, b"", 0)
            for start in range(0, table.size, row):
                uses = [use for use in table.references if start <= use.offset < start + row]
                first = next((use.target for use in uses if use.offset == start), None)
                if not isinstance(first, Within) or first.piece not in self.included:
                    continue
                out.fixups += [self._fixup(use, len(out.data) - start) for use in uses]
                out.data += table.data[start : start + row]
            out.size = len(out.data)
            if out.data:
                self.sections.append(out)

    def _init_call(self, table: Piece, use: Use) -> None:
        """Take along a row of a table of what is called when an update is applied, or is gone."""
        assert isinstance(use.target, Within)
        fixup = replace(self._fixup(use), offset=0)
        flags = table.section.flags & (WRITE | ALLOC)
        self.sections.append(OutSection(table.section.name, flags, 4, bytes(4), 4, [], [fixup]))
        name, when = self.difference.after.all[use.target.piece].name, _when(table)
        self.notes.append(f"{self.file}: {name} is called {when}")

    def _tell(self, piece: Piece, symbol: str) -> None:
        known = piece.number in self.difference.pairs
        if piece.kind is Kind.FUNCTION and known and not _PART.search(piece.name):
            original = self._original(piece)
            checksum, relocated = _fingerprint(original)
            where = (original.name, self.file, self.module, original.local)
            self.functions.append(Function(*where, "replace", symbol, original.size, checksum, relocated))
        elif piece.kind is Kind.DATA and piece.number in self._written:
            original, words = self._original(piece), tuple(self._written[piece.number])
            before = "".join((original.data or bytes(original.size))[at : at + 4].hex() for at in words)
            where = (original.name, self.file, self.module, original.local)
            self.data.append(Data(*where, "write", symbol, piece.size, words, before, f"data:{piece.name}"))
        elif piece.kind is Kind.DATA:
            where = (piece.name, self.file, self.module, piece.local)
            self.data.append(Data(*where, "new", symbol, piece.size, (), "", ""))


def _when(table: Piece) -> str:
    first = is_init_table(table.section.name)
    return "once, before the new code can be reached" if first else "when the update has been taken out"


def _fingerprint(piece: Piece) -> tuple[str, str]:
    """Return SHA-256 of a function's words with those that are relocated as 0, and which these are."""
    data, bits = bytearray(piece.data), 0
    for use in piece.references:
        word = use.offset // 4
        data[4 * word : 4 * word + 4] = bytes(4)
        bits |= 1 << word
    return hashlib.sha256(data).hexdigest(), f"{bits:x}"
