"""Find the modules that a running Linux has loaded: on its own list, by what their structures look like.

A ``struct module`` begins with its state, its place on the list, and its name, in all versions so far. What
else is wanted of it stood at many places: where its memory is (one piece, or one for each kind of contents)
is told by pointers to pages that the kernel maps outside of its linear map, the rest by `module_symbols`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kgdbpatch.errors import BadImage, MemoryFault
from kgdbpatch.image import Image, Section, Segment, Symbol
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.loaded import ModuleImage, present
from kgdbpatch.personality.base import Module, Window
from kgdbpatch.personality.linux.memory import PAGE, KernelMemory
from kgdbpatch.personality.linux.module_symbols import module_symbols
from kgdbpatch.personality.linux.tables import has_distances

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LinuxModules"]

_HEAD = "modules"
_STATE, _LINK, _NAME = 0, 4, 12  # offsets in a module's structure
_LIVE, _UNFORMED = 0, 3  # states
_STRUCTURE = 1024  # bytes of it that are looked at
_NAMED = re.compile(rb"([!-.0-~]{1,63})\0")
_MOST = 4096  # modules: more is no list
_SIZES = 8  # words behind a pointer to code in which its size is
_TRIES = 8  # at reading the list while the guest changes it


class _Found(NamedTuple):
    """A module with the ``words`` of its structure, its pieces of memory, and its symbols."""

    module: Module
    words: tuple[int, ...]
    pieces: tuple[Window, ...]
    symbols: tuple[Symbol, ...]


class LinuxModules:
    """The modules of one running kernel, which need not stand still."""

    def __init__(self, image: Image, memory: KernelMemory, understood: Callable[[], bool]) -> None:
        """``understood`` tells whether the kernel's page tables are such as ``memory`` reads."""
        self._image, self._memory, self._understood = image, memory, understood
        self._known: dict[int, _Found] = {}  # by the structure's address

    def physical(self, address: int) -> int | None:
        """Return where the memory at an address is, None where there is none."""
        return self._memory.physical(address)

    def loaded(self) -> Sequence[Module]:
        """Return the modules that have code, the last loaded first; raise `BadImage` for a damaged list."""
        return [found.module for found in self._found()]

    def _found(self) -> list[_Found]:
        for left in reversed(range(_TRIES)):
            try:
                return self._walk()
            except (BadImage, MemoryFault) as error:  # it may be being changed
                if not left:
                    reason = error.reason if isinstance(error, BadImage) else str(error)
                    raise BadImage(self._image.path, f"the list of modules is damaged: {reason}") from error
        raise AssertionError

    def _bad(self, reason: str) -> BadImage:
        return BadImage(self._image.path, reason)

    def _walk(self) -> list[_Found]:
        if all(self._memory.word(head) == head for head in self._heads) or not self._understood():
            return []
        found: dict[int, _Found] = {}
        for head in self._heads:
            try:
                found |= self._on_list(head)
            except (BadImage, MemoryFault):
                if len(self._heads) == 1:  # of several the others are something else
                    raise
        self._known = found
        return list(found.values())

    def _on_list(self, head: int) -> dict[int, _Found]:
        modules = ((link - _LINK, self._module(link - _LINK)) for link in self._links(head))
        return {start: module for start, module in modules if module is not None}

    @cached_property
    def _heads(self) -> tuple[int, ...]:
        return tuple({symbol.address for symbol in self._image.symbols.called(_HEAD)})

    def _links(self, head: int) -> Iterator[int]:
        """Yield the links of the list in their order, which holds while the kernel changes it (RCU)."""
        at, seen = self._memory.word(head), {head}
        while at not in seen:
            if len(seen) == _MOST:
                break
            seen.add(at)
            yield at
            at = self._memory.word(at)
        if at != head:
            raise self._bad("it has no end")

    def _module(self, start: int) -> _Found | None:
        """Return the module with the structure at an address; None for one that has no code, or none yet."""
        held = self._structure(start)
        words = tuple(np.frombuffer(held, ">u4").tolist())
        state, name = words[_STATE // 4], _NAMED.match(held, _NAME)
        if state > _UNFORMED or name is None:
            raise self._bad(f"the module at 0x{start:08x} is described in no known way")
        if state == _UNFORMED:
            return None
        known = self._known.get(start)
        if known is None or known.words != words:
            known = self._described(name[1].decode(), words)
        if known is None:
            return None
        module = known.module._replace(
            live=state == _LIVE, frames=self._memory.digest(known.pieces[0]), handle=start
        )
        return known._replace(module=module)

    def _structure(self, start: int) -> bytes:
        held = self._memory.read(start, _NAME + 64)
        end = start + len(held)
        while end < start + _STRUCTURE:
            count = min(start + _STRUCTURE, (end | PAGE - 1) + 1) - end
            try:
                held += self._memory.read(end, count)
            except MemoryFault:
                break
            end += count
        return held[: len(held) & ~3]

    def _mapped(self, address: int) -> bool:
        return not self._memory.linear(address) and self._memory.physical(address) is not None

    def _pieces(self, words: Sequence[int]) -> list[Window]:
        """Return the pieces of memory that a structure points to the beginnings of."""
        runs: dict[int, Window] = {}
        for at in words:
            if at % PAGE or not self._mapped(at):
                continue
            run = self._memory.run(at)
            if run.end not in runs or run.start < runs[run.end].start:
                runs[run.end] = run
        return list(runs.values())

    def _described(self, name: str, words: tuple[int, ...]) -> _Found | None:
        """Return what a structure says; None where it says nothing of code, or nothing that is understood."""
        symbols = module_symbols(words, self._memory.read, self._mapped)
        code = [symbol for symbol in symbols if symbol.kind == "function"]
        pieces = self._pieces(words)
        holding = [one for one in pieces if any(one.start <= s.address < one.end for s in code)]
        if len(holding) != 1:
            return None
        (piece,) = holding
        code = [symbol for symbol in code if piece.start <= symbol.address < piece.end]
        module = Module(name, Window(piece.start, self._code_end(words, piece, code)), 0, True)
        others = tuple(window for window in pieces if window != piece)
        return _Found(module, words, (piece, *others), tuple(symbols))

    def _code_end(self, words: Sequence[int], piece: Window, code: Sequence[Symbol]) -> int:
        """Return the end of the code in a piece: by the least size said that holds all functions."""
        least = max(symbol.address + max(symbol.size, 4) for symbol in code) - piece.start
        sizes = {
            size
            for index, at in enumerate(words)
            if at == piece.start
            for size in words[index + 1 : index + 1 + _SIZES]
            if least <= size <= piece.end - piece.start
        }
        return piece.start + (min(sizes, default=least) + 3 & ~3)

    def image(self, module: Module, words: Callable[[int, int], npt.NDArray[np.uint32]]) -> ModuleImage:
        """Return a module's code, data and symbols; ``words(address, count)`` reads its code.

        Raises `BadImage` when it is loaded no more.
        """
        found = next((one for one in self._found() if one.module.id == module.id), None)
        if found is None:
            raise self._bad(f"the module {module.name} was unloaded")
        code, (piece, *others) = module.code, found.pieces
        text = words(code.start, (code.end - code.start) // 4)
        held = text.astype(">u4").tobytes()
        data = [Window(code.end, piece.end), *others] if code.end < piece.end else others
        rest = [(part, present(self._memory.read, part.start, part.end - part.start)) for part in data]
        sections = [Section(f"{module.name},.text", code.start, len(held), held, True, False)]
        for number, (part, kept) in enumerate(rest):
            name = f"{module.name},.data{number or ''}"
            sections.append(Section(name, part.start, len(kept), kept, False, True))
        segments = tuple(Segment(s.name, s.address, s.size, s.data) for s in sections)
        symbols = [_placed(symbol, sections) for symbol in found.symbols]
        symbols.sort(key=lambda s: (s.kind != "function", not s.exported, *plainness(s.name)))
        from kgdbpatch.personality.linux.module_tables import (
            module_tables,
        )  # decodes, which takes time to import

        tables = module_tables(
            code,
            text,
            [(part.start, kept) for part, kept in rest],
            distances=has_distances(self._image),
            at=piece.end,
            others=[Window(one.address, one.end) for one in self._image.sections if not one.executable],
        )
        contents = Contents(code.start, (*sections, *tables), segments, symbols)
        digest = hashlib.sha256(held + b"".join(kept for _, kept in rest)).hexdigest()
        kernel = self._image
        return ModuleImage(module.name, kernel.path, kernel.format, digest, contents, kernel.model)


def _placed(symbol: Symbol, sections: Sequence[Section]) -> Symbol:
    """Return a symbol with the section that it is in; one that is in none is absolute."""
    section = next((section for section in sections if symbol.address in section), None)
    if section is None:
        return symbol._replace(kind="absolute")
    kind = symbol.kind if section.executable else "object"
    return symbol._replace(section=section.name, kind=kind)
