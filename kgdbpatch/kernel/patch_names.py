"""The names of the patches that stand: what each is called, where its functions and variables are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.component.table import Record
from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image.near import close_names
from kgdbpatch.results import PatchState
from kgdbpatch.variables import Note
from kgdbpatch.variables.path import Place, name_at

if TYPE_CHECKING:
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.image import Image

__all__ = ["Noted", "PatchNames", "pointed_to", "title"]

_GONE = (PatchState.RETIRED, PatchState.UNLOADED)
_OF_THE_KERNEL = "kernel:"
_NO_NAME = re.compile(r"\W")
_QUALIFIED = re.compile(r"([\w.-]+):(?!:)(.+)")  # file:name or 3:name; '::' is of a static one's function


class Noted(NamedTuple):
    """A patch that keeps a note: its record, the address of its payload's begin, the note."""

    record: Record
    payload: int
    note: Note

    @property
    def name(self) -> str:
        """What it is called: its source file without the suffix, in letters that C allows; or nothing."""
        stem = Path(self.note.source).stem
        return "" if stem.startswith("<") else _NO_NAME.sub("_", stem)

    def symbolize(self, address: int) -> str:
        """Return the name of an address in its body: ``3:serve+0x10``, ``3:table[2].handler``."""
        offset = address - self.payload
        variable = name_at(self.note, offset)
        if variable is not None:
            return f"{self.record.id}:{variable}"
        before = [one for one in self.note.functions if one.offset <= offset]
        if before and offset >= 0:
            last = max(before, key=lambda one: one.offset)
            beside = f"+0x{offset - last.offset:x}" if offset > last.offset else ""
            return f"{self.record.id}:{last.name}{beside}"
        beside = f"+0x{address - self.record.body:x}" if address > self.record.body else ""
        return f"patch {self.record.id}{beside}"

    def exported(self) -> Iterator[tuple[str, int]]:
        """Yield name and address of what other payloads may use by its plain name."""
        yield from ((one.name, self.payload + one.offset) for one in self.note.functions if one.exported)
        for variable in self.note.variables:
            if variable.exported and variable.offset is not None:
                yield variable.name, self.payload + variable.offset


def title(patch_id: int, name: str) -> str:
    """Return how a patch is called in a sentence."""
    return f"patch {patch_id} ({name})" if name else f"patch {patch_id}"


def pointed_to(names: PatchNames, place: Place, data: bytes) -> Iterator[Noted]:
    """Yield the patches into which words of new data point."""
    if place.offset % 4 or len(data) % 4 or place.bits:
        return
    words = {int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)}
    for one in names.noted if any(words) else ():
        record = one.record
        if any(record.body <= word < record.body + record.body_size for word in words):
            yield one


class PatchNames:
    """What the patches of an arena are called, and what they have; read when it is first asked for."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    @cached_property
    def noted(self) -> list[Noted]:
        """The patches that stand and keep a note, oldest first."""
        return [*self.read(one for one in self._arena.records() if one.state not in _GONE)]

    def read(self, records: Iterable[Record]) -> Iterator[Noted]:
        """Yield those of some records that keep a note, with it."""
        for record in records:
            found = self._arena.note(record)
            if found is not None:
                yield Noted(record, *found)

    def called(self, word: str) -> list[Noted]:
        """Return the patches that a word means: the id, or what they are called."""
        if word.isascii() and word.isdigit():
            return [one for one in self.noted if one.record.id == int(word)]
        return [one for one in self.noted if one.name and one.name == _NO_NAME.sub("_", word)]

    def patch_id(self, word: str) -> int:
        """Return the id that a word means, be it a number or a patch's name; raise `Misuse`."""
        if word.isascii() and word.isdigit() and len(word) < 11:
            return int(word)
        found = self.called(word)
        if len(found) > 1:
            ids = ", ".join(str(one.record.id) for one in found)
            raise Misuse(f"several patches are called '{word}': {ids}; give an id")
        if not found:
            near = close_names(word, [one.name for one in self.noted])
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise Misuse(f"no patch is called '{word}': give an id, as 'kgdbpatch list' shows it{hint}")
        return found[0].record.id

    def find(self, name: str, image: Image) -> tuple[int, int | None]:
        """Return the address that a name has in a payload, and the patch that it is of: None for the kernel.

        A plain name is the kernel's where all its files see it, else a standing patch's, else the kernel's
        own local one. ``kernel:name``, ``file:name`` and ``3:name`` say which. Raises `UnknownSymbol`, and
        `Misuse` for what may be both.
        """
        if name.startswith(_OF_THE_KERNEL):
            return image.lookup(name.removeprefix(_OF_THE_KERNEL)), None
        if _QUALIFIED.fullmatch(name):
            return self.lookup(name)
        if image.exports(name):
            return image.lookup(name), None
        try:
            address, patch_id = self.lookup(name)
        except UnknownSymbol:
            return image.lookup(name), None
        if image.knows(name):
            raise Misuse(
                f"'{name}' is patch {patch_id}'s, and a local name of the kernel's: say which "
                f"({patch_id}:{name} or {_OF_THE_KERNEL}{name}, KGP_OF in C)"
            )
        return address, patch_id

    def lookup(self, name: str) -> tuple[int, int]:
        """Return address and patch of a function or variable: ``name``, ``file:name`` or ``3:name``.

        A plain name is one that other files see in C; with its patch's name static ones count, too. Raises
        `UnknownSymbol`, or `Misuse` where several patches have it.
        """
        match = _QUALIFIED.fullmatch(name)
        if match is None:
            every = [(one, at) for one in self.noted for known, at in one.exported() if known == name]
            every = [*dict.fromkeys(every)]
        else:
            every = [(one, at) for one in self.called(match[1]) for at in self._inside(one, match[2])]
        if len(every) > 1:
            where = ", ".join(f"{one.record.id}:{match[2] if match else name}" for one, _ in every)
            raise Misuse(f"'{name}' is ambiguous among the patches: {where}; say which (KGP_OF in C)")
        if not every:
            names = (known for one in self.noted for known, _ in one.exported())
            raise UnknownSymbol(name, "the patches", close_names(match[2] if match else name, names))
        one, address = every[0]
        return address, one.record.id

    @staticmethod
    def _inside(one: Noted, name: str) -> list[int]:
        """Return the addresses of a patch's names, those that other files see before all others."""
        outer = dict.fromkeys(at for known, at in one.exported() if known == name)
        inner = [each.offset for each in one.note.functions if each.name == name]
        inner += [
            each.offset
            for each in one.note.variables
            if name in (each.name, f"{each.scope}::{each.name}") and each.offset is not None
        ]
        return [*outer] or [*dict.fromkeys(one.payload + offset for offset in inner)]
