"""Disassemble a kernel's code: as it is without patches, or as it stands there with all that they lead to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.errors import KgdbPatchError, MemoryFault, Misuse, Refused
from kgdbpatch.image import Function
from kgdbpatch.isa import encode
from kgdbpatch.kernel.code_lines import CodeLine, chosen, decoded, reasons
from kgdbpatch.kernel.patched_code import pieces
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.component.table import Record
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.patched_code import Piece

__all__ = ["disassemble", "disassemble_file"]

_GONE = (PatchState.RETIRED, PatchState.UNLOADED)


def disassemble_file(image: Image, place: str, count: int | None = None) -> list[CodeLine]:
    """Return the code of a kernel that does not run; ``place`` and ``count`` as `code_lines.chosen`."""
    from kgdbpatch.kernel import offline

    start, end = chosen(place, count, image.resolve, image.function_at)
    try:
        words = offline.words(image, start, (end - start) // 4).tolist()
    except Misuse as error:
        raise MemoryFault(str(error), start) from error
    lines = [*decoded(start, words, image.model, image.symbolize)]
    if not any(image.function_at(at) for at in (start, end - 4)):
        return lines
    return _told(lines, reasons(offline.site_checker(image), lines, image.model))


def _told(lines: Iterable[CodeLine], data: dict[int, str]) -> list[CodeLine]:
    found = []
    for line in lines:
        if line.address in data:
            line = replace(
                line,
                kind="data",
                text=f".long 0x{line.word:08x}",
                target=None,
                target_symbol=None,
                note=data[line.address],
            )
        found.append(line)
    return found


def disassemble(
    kernel: Kernel, place: str | int, count: int | None = None, *, patched: bool = False
) -> list[CodeLine]:
    """Return code of a guest, be it dead: without patches, their sites told; with ``patched`` as it stands.

    Then what the patches in it lead to follows: springboards, bodies by parts, new functions. As
    `Kernel.disassemble`.
    """
    return _Disassembler(kernel).lines(f"0x{place:08x}" if isinstance(place, int) else place, count, patched)


class _Disassembler:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._image, self._places = kernel, kernel.image, kernel.places
        self._model = kernel._image.model
        self._sites: dict[int, list[Record]] = {}
        for record in self._places.records:
            if record.state not in _GONE and not record.data:
                self._sites.setdefault(record.site, []).append(record)

    def lines(self, place: str, count: int | None, patched: bool) -> list[CodeLine]:
        start, end = chosen(place, count, self._places.address, self._around)
        if self._places.patch_at(start) is not None:
            return self._of_patch(start, end)
        words, note = self._words(start, (end - start) // 4, patched)
        lines = [*decoded(start, words, self._model, self._places.name)]
        lines = self._marked(lines)
        if self._image.function_at(start) or self._image.function_at(end - 4):
            with suppress(KgdbPatchError, LookupError):  # no analysis of what is not as its file says
                lines = _told(lines, reasons(self._kernel.site_checker, lines, self._model))
        lines = [self._noted(line, compare=note is None) for line in lines]
        lines[0] = replace(lines[0], note=note or lines[0].note)
        if patched:
            for record in self._inside(start, end):
                lines += self._code(record)
        return lines

    def _marked(self, lines: list[CodeLine]) -> list[CodeLine]:
        """Return lines with what lies in sections of data told as such."""
        section = self._image.section_at(lines[0].address)
        if section is None or section.executable:
            return lines
        where = f"{section.name} holds no code"
        return _told(lines, {line.address: where for line in lines if line.address in section})

    def _around(self, address: int) -> Function | None:
        ours = self._places.patch_at(address)
        if ours is not None:
            return Function(ours.name, ours.address, ours.size, (), "")
        return self._image.function_at(address)

    def _inside(self, start: int, end: int) -> list[Record]:
        found = [one for site, records in self._sites.items() if start <= site < end for one in records]
        return sorted(found, key=lambda one: (one.site, -one.id))

    # ---- words ---------------------------------------------------------------------------------

    def _words(self, start: int, count: int, patched: bool) -> tuple[list[int], str | None]:
        """Return words, and what is to be told of all of them."""
        kernel, told = self._kernel, None
        if any(one.start <= start < one.end for one in kernel._personality.discarded(kernel._image)):
            told = "start-up code: its memory was given up"
            with suppress(Misuse):
                words = kernel._image.read(start, 4 * count)
                if not patched:
                    return _split(words), f"{told}; this is what the file has"
        elif not patched:
            with suppress(Refused):  # it is not wired: what the MMU says
                found: list[int] = kernel.words(start, count).tolist()
                return found, None
        return _split(kernel.memory.read(start, 4 * count)), told

    # ---- what is told --------------------------------------------------------------------------

    def _noted(self, line: CodeLine, *, compare: bool) -> CodeLine:
        records = sorted(self._sites.get(line.address, ()), key=lambda one: -one.id)
        if records:
            told = ", ".join(self._title(one, line.word) for one in records)
            return replace(line, note=told, patches=tuple(one.id for one in records))
        before = self._own(line.address) if compare else None
        if before is not None and before != line.word and line.note is None:
            (file,) = decoded(line.address, [before], self._model, self._places.name)
            where = f" <{file.target_symbol}>" if file.target_symbol else ""
            return replace(line, note=f"the file has: {file.text}{where}")
        return line

    def _title(self, record: Record, word: int) -> str:
        state = "" if record.state is PatchState.ACTIVE else f", {record.state}"
        ours = f"patch {record.id} ({record.entry}){state}"
        if word != record.splice:
            return ours
        (own,) = decoded(record.site, [record.original], self._model, self._places.name)
        return f"{ours}: before it '{own.text}'"

    def _own(self, address: int) -> int | None:
        """Return the word of the kernel's file, None for what is not of it."""
        if self._image.module_at(address) is not None:
            return None
        section = self._kernel._image.section_at(address)
        if section is None or not section.executable:
            return None
        try:
            return int.from_bytes(self._kernel._image.read(address, 4), "big")
        except Misuse:
            return None

    # ---- patches -------------------------------------------------------------------------------

    def _code(self, record: Record) -> list[CodeLine]:
        arena = self._kernel._component.arena(self._kernel._header().arena)
        new = self._places.updated
        return [line for piece in pieces(arena, record, new) for line in self._piece(record, piece)]

    def _piece(self, record: Record, piece: Piece) -> list[CodeLine]:
        start, words = piece.start, _split(self._kernel.memory.read(piece.start, piece.end - piece.start))
        while piece.padded and words and words[0] in (0, encode.nop()):
            start, words = start + 4, words[1:]
        name = self._places.name
        lines = [*decoded(start, words, self._model, name, patch=record.id, part=piece.part)]
        data = {line.address: "" for line in lines if self._places.is_variable(line.address)}
        lines = [replace(line, note=None) for line in _told(lines, data)]
        return [*(replace(line, note=piece.title) for line in lines[:1]), *lines[1:]]

    def _of_patch(self, start: int, end: int) -> list[CodeLine]:
        """Return what of the patches' code lies in a range."""
        found = []
        for record in self._places.records:
            found += [line for line in self._code(record) if start <= line.address < end]
        return sorted(found, key=lambda line: line.address)


def _split(data: bytes) -> list[int]:
    words: list[int] = np.frombuffer(data, ">u4").tolist()
    return words
