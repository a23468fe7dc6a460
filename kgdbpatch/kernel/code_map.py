"""What code is where in a running kernel: its functions, its modules', and the bodies of patches."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.analysis.unwind import Unwinding, unwinding
from kgdbpatch.component.layout import SPRINGBOARD_SIZE
from kgdbpatch.errors import ComponentDamaged, KgdbPatchError
from kgdbpatch.isa.decode import Instruction, Kind, decode
from kgdbpatch.kernel.patch_names import Noted

if TYPE_CHECKING:
    from kgdbpatch.component.table import Record
    from kgdbpatch.kernel.naming import NamedGuest

__all__ = ["CodeMap", "Piece"]

_KERNEL, _BODY, _PAYLOAD, _BOARD = range(4)
_BACK = 256  # instructions before one that belongs to no known function: where code begins
_PIECE = 1024  # instructions that are read at once


class Piece(NamedTuple):
    """Code that begins at ``start`` and ends before ``end``, with its name.

    In a patch's body ``patch`` is its id, ``site`` the place in the kernel. ``glue``: it is what a patch puts
    around its payload, and runs as if it stood at the site.
    """

    start: int
    end: int
    name: str
    patch: int | None = None
    site: int = 0
    glue: bool = False


class CodeMap:
    """The code of one guest as it is now."""

    def __init__(self, kernel: NamedGuest) -> None:
        self._kernel, self._image = kernel, kernel.image
        self._pieces: list[tuple[int, int, Record, int]] = []
        self._notes: dict[int, Noted] = {}
        header = kernel._text.header() if kernel.alive else None
        self._arena = None if header is None else kernel._component.arena(header.arena)
        if self._arena is not None:
            self._know_patches()
        self._starts = [start for start, *_ in self._pieces]
        self.piece_at = lru_cache(maxsize=None)(self._piece_at)
        self.unwinding = lru_cache(maxsize=None)(self._unwinding)
        self._instruction = lru_cache(maxsize=None)(self._decoded)
        self._words: dict[int, list[int]] = {}

    def _know_patches(self) -> None:
        assert self._arena is not None
        table = self._arena.table()
        glue = dict(zip(table.raw["id"].tolist(), table.raw["glue_words"].tolist(), strict=True))
        for record in table.records():
            with suppress(ComponentDamaged):
                found = self._arena.note(record)
                if found is not None:
                    self._notes[record.id] = Noted(record, *found)
            body, end = record.body, record.body + record.constant_size
            behind = body + 4 * glue[record.id]
            self._pieces += [(body, behind, record, _BODY), (behind, end, record, _PAYLOAD)]
            if record.springboard is not None:
                end = record.springboard + SPRINGBOARD_SIZE * record.springboard_slots
                self._pieces.append((record.springboard, end, record, _BOARD))
        self._pieces.sort(key=lambda piece: piece[0])

    # ---- whose an address is ----------------------------------------------------------------------

    def _piece_at(self, address: int) -> Piece | None:
        """Return the code that an address is in; None where that is not known to be any."""
        number = bisect_right(self._starts, address) - 1
        if number >= 0 and address < self._pieces[number][1]:
            return self._of_patch(*self._pieces[number], address)
        function = self._image.function_at(address)
        if function is not None and address < function.end:
            beside = self._image.symbolize(function.address)  # a module's name is behind it
            return Piece(function.address, function.end, beside)
        section = self._image.section_at(address)
        if section is None or not section.executable:
            return None
        return Piece(section.address, section.address + section.size, "")

    def _of_patch(self, start: int, end: int, record: Record, kind: int, address: int) -> Piece:
        note = self._notes.get(record.id)
        if note is not None and kind in (_BODY, _PAYLOAD) and address >= note.payload:
            functions = sorted(note.payload + one.offset for one in note.note.functions)
            number = bisect_right(functions, address)
            if number:
                behind = functions[number] if number < len(functions) else end
                start = functions[number - 1]
                return Piece(start, max(behind, address + 4), note.symbolize(start), record.id, record.site)
        board = "springboard of " if kind == _BOARD else ""
        glue = kind != _PAYLOAD
        if not glue:
            start, end = record.body, record.body + record.constant_size
        return Piece(start, end, f"{board}patch {record.id}", record.id, record.site, glue)

    def calls_before(self, address: int) -> bool:
        """Tell whether what stands before an address is a call: of whoever returns there."""
        here = self._instruction(address - 4) if self.piece_at(address - 4) is not None else None
        return here is not None and here.links

    def name(self, address: int, *, behind: bool = False) -> str:
        """Return what is at an address; ``behind`` a call: the function that called."""
        piece = self.piece_at(address - 4 * behind)
        if piece is None or not piece.name:
            return self._image.symbolize(address)
        if piece.patch is not None and not piece.glue and piece.name.startswith("patch "):
            piece = piece._replace(start=self._body_of(piece))
        function, bracket, module = piece.name.partition(" [")
        beside = f"+0x{address - piece.start:x}" if address > piece.start else ""
        return f"{function}{beside}{bracket}{module}"

    def _body_of(self, piece: Piece) -> int:
        return next(record.body for _, _, record, _ in self._pieces if record.id == piece.patch)

    # ---- its instructions ---------------------------------------------------------------------------

    def _word(self, address: int) -> int | None:
        """Return a word of code, of the kernel's as it is without patches; or None."""
        page = address - address % (4 * _PIECE)
        number = bisect_right(self._starts, address) - 1
        if number >= 0 and address < self._pieces[number][1] and self._arena is not None:
            _, _, record, kind = self._pieces[number]
            if kind == _BOARD:
                at = address - (record.springboard or 0)
                code = self._arena.springboard_code(record.springboard, record.springboard_slots)
                return int.from_bytes(code[at : at + 4], "big")
            return int.from_bytes(self._arena.read(address, 4), "big")
        if page not in self._words:
            self._words[page] = self._read(page, _PIECE)
        words = self._words[page] or self._read(address, 1)
        index = (address - page) // 4 if self._words[page] else 0
        return words[index] if index < len(words) else None

    def _read(self, address: int, count: int) -> list[int]:
        try:
            return [int(word) for word in self._kernel.words(address, count)]
        except KgdbPatchError:  # what is mapped otherwise is as in the file
            pass
        try:
            data = self._image.read(address, 4 * count)
        except KgdbPatchError:
            return []
        return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]

    def _decoded(self, address: int) -> Instruction | None:
        word = self._word(address)
        return None if word is None else decode(word, address, self._image.model)

    def _unwinding(self, address: int) -> Unwinding | None:
        """Return how the caller of the code at an address is found there; None where that is not known."""
        piece = self.piece_at(address)
        if piece is None:
            return None

        def inside(at: int) -> Instruction | None:
            return self._instruction(at) if piece.start <= at < piece.end else None

        found = unwinding(inside, piece.start, address) if piece.name else None
        if found is None:
            start = self._begin(address, piece.start)
            found = unwinding(inside, start, address) if start != piece.start or not piece.name else None
        return found

    def _begin(self, address: int, least: int) -> int:
        """Return where the code begins that an address is in: behind what no control goes on from."""
        for at in range(address - 4, max(least, address - 4 * _BACK) - 1, -4):
            here = self._instruction(at)
            ends = here is None or here.kind in (Kind.JUMP, Kind.RETURN, Kind.INDIRECT, Kind.RFI)
            if here is None or (ends and not here.conditional):
                return at + 4
        return least
