"""Machine descriptions: which board and CPU QEMU shall be."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kgdbpatch.errors import BadInput, Misuse

__all__ = ["MachineDescription"]


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """A file of `qemu/`: QEMU's machine and CPU, GDB's architecture name, fixed arguments."""

    name: str
    machine: str
    cpu: str
    architecture: str
    args: tuple[str, ...]

    @classmethod
    def load(cls, name: str) -> MachineDescription:
        """Load the description called ``name``; raise `Misuse` for an unknown one."""
        places = [
            Path(str(files("kgdbpatch") / "_data" / "qemu")),  # an installed package
            Path(__file__).parents[2] / "qemu",  # a checkout
        ]
        path = next((place / f"{name}.toml" for place in places if (place / f"{name}.toml").is_file()), None)
        if path is None:
            raise Misuse(f"no machine description '{name}' in {' or '.join(map(str, places))}")
        try:
            table = tomllib.loads(path.read_text())
            return cls(
                name,
                str(table["machine"]),
                str(table["cpu"]),
                str(table["architecture"]),
                tuple(map(str, table.get("args", ()))),
            )
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise BadInput(f"{path}: {error}") from error
