"""Source lines by address: the line tables (DWARF 2 to 5) of a whole kernel, as arrays."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadImage
from kgdbpatch.image.line_program import rows

__all__ = ["LineTable", "line_table"]

_DAMAGED = (ELFError, DWARFError, ConstructError, ValueError, KeyError, IndexError, AttributeError, TypeError)


@dataclass(frozen=True, slots=True)
class LineTable:
    """Which line begins at each ``address``, ascending: a number in ``files``, and the line, 0 for none.

    Names of files are told from ``root`` on, the directory in which most were compiled.
    """

    address: npt.NDArray[np.int64]
    file: npt.NDArray[np.int32]
    line: npt.NDArray[np.int64]
    files: tuple[str, ...]
    root: str


def line_table(path: Path) -> LineTable:
    """Read the line tables of an ELF file; raise `BadImage` for one that is damaged, or has none."""
    lines, files, roots = list[tuple[int, int, int]](), dict[str, int](), Counter[str]()
    try:
        with path.open("rb") as file:
            information = ELFFile(file).get_dwarf_info()
            for unit in information.iter_CUs():
                program = information.line_program_for_CU(unit)
                if program is not None:
                    top = unit.get_top_DIE().attributes
                    directory = _text(top["DW_AT_comp_dir"].value) if "DW_AT_comp_dir" in top else ""
                    roots[directory] += 1
                    numbers = [files.setdefault(name, len(files)) for name in _names(program, directory)]
                    _run(program, numbers, lines)
    except OSError as error:
        raise BadImage(path, (error.strerror or str(error)).lower()) from error
    except _DAMAGED as error:
        raise BadImage(path, f"its line tables cannot be read: {error}") from error
    if not lines:
        raise BadImage(path, "no line tables (DWARF) in it")
    found = np.array(lines, np.int64)
    order = np.argsort(found[:, 0], kind="stable")  # an end comes before what begins at the same address
    found = found[order]
    last = np.append(found[1:, 0] != found[:-1, 0], True)  # of several rows of one address the last one holds
    found = found[last]
    root = roots.most_common(1)[0][0]
    names = tuple(name.removeprefix(f"{root}/") if root else name for name in files)
    return LineTable(found[:, 0].copy(), found[:, 1].astype(np.int32), found[:, 2].copy(), names, root)


def _text(value: Any) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _names(program: Any, directory: str) -> list[str]:
    """Return the files of a unit by their numbers."""
    header = program.header
    names = []
    if header["version"] >= 5:
        folders = [_text(one["DW_LNCT_path"]) for one in header["directories"]]
        entries = [
            (_text(one["DW_LNCT_path"]), one.get("DW_LNCT_directory_index", 0))
            for one in header["file_names"]
        ]
    else:
        folders = [directory, *(_text(one) for one in header["include_directory"])]
        entries = [("", 0), *((_text(one.name), one.dir_index) for one in header["file_entry"])]
    for name, number in entries:
        folder = folders[number] if number < len(folders) else ""
        names.append(os.path.normpath(os.path.join(directory, folder, name)))
    return names


def _run(program: Any, numbers: list[int], found: list[tuple[int, int, int]]) -> None:
    """Run a unit's line number program and add its rows: address, file, line.

    What is behind a sequence has line 0. Sequences at address 0 are of what the linker dropped.
    """
    begun = len(found)
    for row in rows(program):
        if not row.end:
            found.append((row.address, numbers[row.file], row.line))
            continue
        if begun < len(found) and found[begun][0] == 0:
            del found[begun:]
        else:
            found.append((row.address, 0, 0))
        begun = len(found)
