"""Machine descriptions: how QEMU is told to build a board, and what GDB calls its CPU."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from kgdbpatch.errors import Misuse

__all__ = ["MachineDescription", "machines"]

_PACKAGE = Path(__file__).resolve().parents[1]
_DIRECTORIES = (_PACKAGE / "_data" / "qemu", _PACKAGE.parent / "qemu")
_KERNELS = ("elf", "uimage", "raw")


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """One board: QEMU's ``machine``, ``binary`` and ``cpu``, GDB's ``architecture``, fixed arguments.

    ``timebase_hz`` is what the CPU's time base counts in a second; 0: not known.

    ``console`` are the arguments that connect the console; ``{console}`` in them stands for the
    character device's id. ``kernels`` is what ``-kernel`` takes on this board (``elf``, ``uimage``,
    ``raw``), ``drive`` what ``-drive`` needs besides a file. RAM is a multiple of ``memory_step_mib``. With
    ``starts_at_first_byte`` a kernel of ``-kernel`` is put at a place of the board's and started at its
    first byte, wherever it was linked for. ``smp_binary`` is the program for several CPUs, if another one.
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
            return cls._parse(path.stem, tomllib.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise Misuse(f"machine description {path}: {error}") from error

    @classmethod
    def _parse(cls, name: str, table: Mapping[str, object]) -> MachineDescription:
        memory = table.get("max_memory_mib")
        if not isinstance(memory, int):
            raise ValueError("'max_memory_mib' must be a number")
        unknown = table.keys() - {field.name for field in fields(cls)} | table.keys() & {"name"}
        if unknown:
            raise ValueError(f"'{min(unknown)}' is not known")
        timebase = table.get("timebase_hz", 0)
        if not isinstance(timebase, int):
            raise ValueError("'timebase_hz' must be a number")
        step = table.get("memory_step_mib", 1)
        if not isinstance(step, int) or step < 1:
            raise ValueError("'memory_step_mib' must be a number, 1 or more")
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
            kernels=_kinds(table),
            drive=_text(table, "drive") if "drive" in table else "",
            memory_step_mib=step,
            starts_at_first_byte=_flag(table, "starts_at_first_byte"),
            smp_binary=_text(table, "smp_binary") if "smp_binary" in table else "",
        )


def machines() -> list[str]:
    """Return the names of the machine descriptions that come with the package."""
    return sorted({path.stem for directory in _DIRECTORIES for path in directory.glob("*.toml")})


def _kinds(table: Mapping[str, object]) -> tuple[str, ...]:
    kinds = _texts(table, "kernels") if "kernels" in table else ("elf",)
    if not kinds or not set(kinds) <= set(_KERNELS):
        raise ValueError(f"'kernels' must list some of {', '.join(_KERNELS)}")
    return kinds


def _flag(table: Mapping[str, object], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"'{key}' must be true or false")
    return value


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
