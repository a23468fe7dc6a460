"""Which code a line of source became: the line tables (DWARF) of a kernel's file, or of one beside it."""

from __future__ import annotations

import hashlib
import marshal
import posixpath
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from kgdbpatch import store
from kgdbpatch.errors import BadImage
from kgdbpatch.image.debug import debug_file
from kgdbpatch.image.image import Image
from kgdbpatch.image.line_program import Row, rows
from kgdbpatch.image.source import KernelFile

__all__ = ["LineTable"]

_ROOM, _MARSHAL = "lines", 4
_DAMAGED = (ELFError, DWARFError, ConstructError, ValueError, KeyError, IndexError, OverflowError)
_ROW = np.dtype([("address", "<u4"), ("file", "<i4"), ("line", "<u4"), ("stmt", "u1")])
_END = -1  # instead of a file: no code of the table's follows


class LineTable:
    """The rows of all line tables of a kernel, by address.

    >>> table = LineTable.of(image)
    >>> table.named("mem.c")
    ['drivers/char/mem.c']
    """

    def __init__(self, files: list[str], table: npt.NDArray[np.void]) -> None:
        self.files, self._table = files, table
        self._last = {name.rpartition("/")[2] for name in files}

    @classmethod
    def of(cls, image: Image) -> LineTable:
        """Return the table of a kernel, from its file or one beside it; raise `BadImage` where none tells."""
        return _opened(debug_file(image), image.path)

    def named(self, name: str) -> list[str]:
        """Return the files that a name means: a whole path, else the end of some."""
        plain = posixpath.normpath(name)
        if plain in self.files:
            return [plain]
        return sorted(one for one in self.files if one.endswith("/" + plain))

    @property
    def base_names(self) -> set[str]:
        """The files' names without directories."""
        return self._last

    def lines(self, file: str) -> dict[int, list[int]]:
        """Return the lines of a file that have code, with the addresses at which a statement of them begins.

        Each row that begins a statement counts, but not one that goes on with the line of the one before.
        """
        number = self.files.index(file)
        table = self._table
        here = (table["file"] == number) & (table["stmt"] == 1) & (table["line"] > 0)
        goes_on = np.zeros(len(table), np.bool_)
        same = (table["file"][1:] == table["file"][:-1]) & (table["line"][1:] == table["line"][:-1])
        goes_on[1:] = same
        found: dict[int, list[int]] = {}
        chosen = table[here & ~goes_on]
        for address, line in zip(chosen["address"].tolist(), chosen["line"].tolist(), strict=True):
            places = found.setdefault(line, [])
            if address not in places:
                places.append(address)
        return dict(sorted(found.items()))

    def at(self, address: int) -> tuple[str, int] | None:
        """Return the file and line of an instruction, None where no table tells."""
        row = int(np.searchsorted(self._table["address"], address, side="right")) - 1
        if row < 0 or self._table["file"][row] == _END or not self._table["line"][row]:
            return None
        return self.files[int(self._table["file"][row])], int(self._table["line"][row])


@cache
def _readers() -> str:
    """Return a digest of the code that decides what a table says."""
    digest = hashlib.blake2b()
    for name in ("line_table.py", "line_program.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=4)
def _opened(path: Path, about: Path) -> LineTable:
    key = f"{KernelFile(path).sha256[:32]}-{_readers()}"
    body = store.load(_ROOM, key)
    if body is not None:
        files, raw = marshal.loads(body)
        return LineTable(files, np.frombuffer(raw, _ROW))
    try:
        with path.open("rb") as file:
            files, table = _read(ELFFile(file))
    except OSError as error:
        raise BadImage(path, (error.strerror or str(error)).lower()) from error
    except _DAMAGED as error:
        raise BadImage(path, f"damaged debug information: {str(error) or type(error).__name__}") from error
    if not len(table):
        raise BadImage(about, "its debug information has no lines (DWARF line tables): build with -g")
    store.save(_ROOM, key, marshal.dumps((files, table.tobytes()), _MARSHAL))
    return LineTable(files, table)


def _read(elf: ELFFile) -> tuple[list[str], npt.NDArray[np.void]]:
    """Return the files, and the rows of all units in order of their addresses."""
    numbers: dict[str, int] = {}
    found: list[npt.NDArray[np.void]] = []
    information: Any = elf.get_dwarf_info(relocate_dwarf_sections=False)
    if not information.has_debug_info:
        return [], np.zeros(0, _ROW)
    for unit in information.iter_CUs():
        top = unit.get_top_DIE()
        program = information.line_program_for_CU(unit)
        if program is None:
            continue
        attribute = top.attributes.get("DW_AT_comp_dir")
        directory = "" if attribute is None else attribute.value.decode(errors="replace")
        names = [*_names(program.header, directory)]
        own = [numbers.setdefault(name, len(numbers)) for name in names]
        found.append(np.array([*_whole(rows(program), own)], _ROW))
    table = np.concatenate([np.zeros(0, _ROW), *found])
    table = table[np.lexsort((np.arange(len(table)), table["file"] != _END, table["address"]))]
    return [*numbers], table


def _whole(given: Iterator[Row], own: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the rows of a unit, but not those of code that was left out: its addresses begin at 0."""
    sequence: list[tuple[int, int, int, int]] = []
    for row in given:
        known = 0 <= row.file < len(own)
        number = _END if row.end or not known else own[row.file]
        sequence.append((row.address, number, row.line, row.stmt and not row.end))
        if row.end:
            if sequence[0][0]:
                yield from sequence
            sequence = []


def _names(header: Any, directory: str) -> Iterator[str]:
    """Yield the paths of a unit's files, by their number, below the directory that it was compiled in."""
    version = header["version"]
    directories = [one.decode(errors="replace") for one in header["include_directory"]]
    if version < 5:
        directories = [directory, *directories]
        yield ""
    for entry in header["file_entry"]:
        name = entry.name.decode(errors="replace")
        within = directories[entry.dir_index] if entry.dir_index < len(directories) else ""
        whole = posixpath.join(directory, within, name)
        below = posixpath.relpath(whole, directory) if directory else whole
        yield posixpath.normpath(whole) if below.startswith("..") else below
