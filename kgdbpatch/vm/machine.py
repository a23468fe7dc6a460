"""Machine descriptions: how QEMU is told to build a board, and what GDB calls its CPU."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kgdbpatch.errors import Misuse

__all__ = ["MachineDescription", "machines"]

_PACKAGE = Path(__file__).resolve().parents[1]
_DIRECTORIES = (_PACKAGE / "_data" / "qemu", _PACKAGE.parent / "qemu")
_KERNELS = ("elf", "uimage", "raw")
_KINDS: dict[object, tuple[type, str]] = {  # how the types of `MachineDescription` are written in TOML
    "str": (str, "a text"),
    "int": (int, "a number"),
    "bool": (bool, "true or false"),
    "tuple[str, ...]": (list, "a list of texts"),
}


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """One board: QEMU's ``machine``, ``binary`` and ``cpu``, GDB's ``architecture``, fixed arguments.

    ``timebase_hz`` is 0 where it is not known. ``console`` connects the character device ``{console}``.
    ``kernels`` is what ``-kernel`` takes (``elf``, ``uimage``, ``raw``), ``drive`` what ``-drive`` needs
    besides a file. With ``starts_at_first_byte`` a kernel is put at a place of the board's and started at its
    first byte, wherever it was linked for. ``smp_binary`` is the program for several CPUs, if another one.
    """

    name: str
    max_memory_mib: int
    machine: str
    binary: str
    cpu: str
    architecture: str
    args: tuple[str, ...]
    console: tuple[str, ...]
    timebase_hz: int = 0
    kernels: tuple[str, ...] = ("elf",)
    drive: str = ""
    memory_step_mib: int = 1
    starts_at_first_byte: bool = False
    smp_binary: str = ""

    @classmethod
    def load(cls, name: str | Path) -> MachineDescription:
        """Load a description by name, or from a file when ``name`` ends in ``.toml``."""
        if str(name).endswith(".toml"):
            return cls._read(Path(name))
        for directory in _DIRECTORIES:
            path = directory / f"{name}.toml"
            if path.is_file():
                return cls._read(path)
        known = machines()
        near = get_close_matches(str(name), known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise Misuse(f"no machine description '{name}'; known: {', '.join(known)}, or a FILE.toml{hint}")

    @classmethod
    def _read(cls, path: Path) -> MachineDescription:
        try:
            return cls._of(path.stem, tomllib.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise Misuse(f"machine description {path}: {error}") from error

    @classmethod
    def _of(cls, name: str, table: Mapping[str, object]) -> MachineDescription:
        known = {field.name: field for field in fields(cls) if field.name != "name"}
        unknown = table.keys() - known.keys()
        if unknown:
            raise ValueError(f"'{min(unknown)}' is not known")
        given = {
            key: _checked(key, field.type, table.get(key))
            for key, field in known.items()
            if key in table or field.default is MISSING
        }
        made = cls(name, **given)
        if made.memory_step_mib < 1:
            raise ValueError("'memory_step_mib' must be a number, 1 or more")
        if not made.kernels or not set(made.kernels) <= set(_KERNELS):
            raise ValueError(f"'kernels' must list some of {', '.join(_KERNELS)}")
        return made


def machines() -> list[str]:
    """Return the names of the machine descriptions that come with the package."""
    return sorted({path.stem for directory in _DIRECTORIES for path in directory.glob("*.toml")})


def _checked(key: str, declared: object, value: object) -> Any:
    """Return a value of a table as a field that is ``declared`` so has it."""
    kind, words = _KINDS[declared]
    if not isinstance(value, kind) or (
        isinstance(value, list) and not all(isinstance(item, str) for item in value)
    ):
        raise ValueError(f"'{key}' must be {words}")
    return tuple(value) if isinstance(value, list) else value
