"""Where the kernel has what an update names: functions found by name, source file and code; data by name."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.image import Image
from kgdbpatch.image.local_symbols import local_symbols
from kgdbpatch.updates.manifest import Data, Function, Manifest

__all__ = ["Originals"]


class Originals:
    """What one kernel's image has of the names in one update's manifest."""

    def __init__(self, image: Image, manifest: Manifest) -> None:
        self._image = image
        self._references = {one.symbol: one for one in manifest.reference}

    def lookup(self, symbol: str) -> int:
        """Return the address of a name that the update's object leaves undefined.

        Raises `UnknownSymbol`; `Refused` (rule ``ambiguous``) where several are called so.
        """
        reference = self._references.get(symbol)
        if reference is None:
            return self._image.lookup(symbol)
        return self._only(reference.name, reference.file, self._places(reference.name, reference.file))

    def function(self, row: Function) -> int:
        """Return the address of a function that is to be replaced.

        Raises `Refused` (rule ``expected``) where the kernel's code is another than the update was made from.
        """
        places = self._places(row.name, row.file)
        same = [at for at in places if self._is(row, at)]
        if not same:
            raise Refused(
                "expected",
                f"{row.name} ({row.file}) is not the code that the update was made from: another kernel's, "
                "or built by another compiler or with other options",
                places[0],
            )
        return self._only(row.name, row.file, same)

    def data(self, row: Data) -> int:
        """Return the address of data that is written over."""
        return self._only(row.name, row.file, self._places(row.name, row.file))

    def _places(self, name: str, file: str) -> list[int]:
        """Return where the kernel has what is called so, of that source file as far as that is known."""
        known = local_symbols(self._image).get((PurePosixPath(file).name, name))
        if known:
            return known
        found = sorted({symbol.address for symbol in self._image.symbols.called(name)})
        return found or [self._image.lookup(name)]

    def _only(self, name: str, file: str, places: list[int]) -> int:
        if len(places) == 1:
            return places[0]
        where = ", ".join(f"0x{at:08x}" for at in places[:4])
        raise Refused(
            "ambiguous",
            f"the kernel has {len(places)} of the name {name} ({where}), and its symbols do not tell which "
            f"one is of {file}: give an image with its files' names",
            places[0],
        )

    def _is(self, row: Function, at: int) -> bool:
        try:
            code = bytearray(self._image.read(at, row.size))
        except Misuse:
            return False
        relocated = int(row.relocated, 16)
        for index in range(row.size // 4):
            if relocated >> index & 1:
                code[4 * index : 4 * index + 4] = bytes(4)
        return hashlib.sha256(code).hexdigest() == row.checksum
