"""Machine descriptions: how QEMU is told to build a board, and what GDB calls its CPU."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kgdbpatch.errors import Misuse

__all__ = ["MachineDescription"]

_PACKAGE = Path(__file__).resolve().parents[1]
_DIRECTORIES = (_PACKAGE / "_data" / "qemu", _PACKAGE.parent / "qemu")


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """One board: QEMU's ``machine``, ``binary`` and ``cpu``, GDB's ``architecture``, fixed arguments.

    ``timebase_hz`` is what the CPU's time base counts in a second; 0: not known.

    ``console`` are the arguments that connect the console; ``{console}`` in them stands for the
    character device's id.
    """

    name: str
    machine: str
    binary: str
    cpu: str
    architecture: str
    max_memory_mib: int
    timebase_hz: int
    args: tuple[str, ...]
    console: tuple[str, ...]

    @classmethod
    def load(cls, name: str | Path) -> MachineDescription:
        """Load a description by name, or from a file when ``name`` ends in ``.toml``."""
        if str(name).endswith(".toml"):
            return cls._read(Path(name))
        for directory in _DIRECTORIES:
            path = directory / f"{name}.toml"
            if path.is_file():
                return cls._read(path)
        known = sorted({path.stem for directory in _DIRECTORIES for path in directory.glob("*.toml")})
        raise Misuse(f"no machine description '{name}'; known: {', '.join(known)}")

    @classmethod
    def _read(cls, path: Path) -> MachineDescription:
        try:
            return cls._parse(path.stem, tomllib.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise Misuse(f"machine description {path}: {error}") from error

    @classmethod
    def _parse(cls, name: str, table: Mapping[str, object]) -> MachineDescription:
        memory = table.get("max_memory_mib")
        if not isinstance(memory, int):
            raise ValueError("'max_memory_mib' must be a number")
        timebase = table.get("timebase_hz", 0)
        if not isinstance(timebase, int):
            raise ValueError("'timebase_hz' must be a number")
        return cls(
            name=name,
            machine=_text(table, "machine"),
            binary=_text(table, "binary"),
            cpu=_text(table, "cpu"),
            architecture=_text(table, "architecture"),
            max_memory_mib=memory,
            timebase_hz=timebase,
            args=_texts(table, "args"),
            console=_texts(table, "console"),
        )


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' must be a text")
    return value


def _texts(table: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"'{key}' must be a list of texts")
    return tuple(value)
