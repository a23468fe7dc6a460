"""Recipes of guests: a machine, a personality, a memory plan, a kernel and how it is booted."""

from __future__ import annotations

import re
import subprocess
import time
import tomllib
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from kgdbpatch.errors import BuildFailed, Misuse
from kgdbpatch.guests.hidden import LEAST, fits, no_hidden_memory
from kgdbpatch.guests.known import path_of
from kgdbpatch.personality import MemoryPlan, Personality, personality
from kgdbpatch.vm.arguments import check_arguments
from kgdbpatch.vm.machine import MachineDescription

__all__ = ["LOADERS", "STARTING", "Boot", "Recipe"]

STARTING = r"Run \S+ as init process"  # what Linux says each time it tries to start its first process
LOADERS = ("qemu", "as-is", "bootx", "device", "firmware")  # loaders.py
_BOOT = {"loader": str, "command_line": str, "args": list, "initrd": str, "drives": list}
_LISTS = ("args", "drives")
_KEYS = {
    "personality": str,
    "machine": str,
    "cpu": str,
    "smp": int,
    "memory_mib": int,
    "announced_mib": int,
    "ready": str,
    "panic": str,
    "oops": str,
    "log": str,
    "heartbeat": (int, float),
    "beat": str,
    "boot_deadline": (int, float),
    "kernel": str,
    "make": list,
    "builder": str,
    "boot": dict,
}


@dataclass(frozen=True)
class Boot:
    """How QEMU is given the kernel.

    ``loader``: ``qemu`` is its own (``-kernel``, ``-initrd``, ``-append``), given what the board boots of the
    kernel's file, and ``as-is`` the same, given that file; ``bootx`` plays BootX for a Mach-O kernel;
    ``device`` puts a kernel where it wants to be and starts at its entry; ``firmware`` is given none: it has
    one on a disk, and the kernel's file is looked at only. ``drives`` are disk images, which
    are never written: the guest gets overlays. ``args`` are more arguments. In ``args`` and
    ``command_line``, ``{directory}``, ``{name}``, ``{announced_mib}``, ``{memory_mib}``,
    ``{timebase_hz}`` and ``{epoch}`` stand for what they say.
    """

    loader: str = "qemu"
    command_line: str = ""
    args: tuple[str, ...] = ()
    initrd: str = ""
    drives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """What is needed to boot one kind of guest; read from a TOML file (see ``kgdbpatch/guests/*.toml``).

    ``ready`` is a regex on a console line: the guest is up and its workload runs. ``heartbeat`` are the
    seconds within which that workload prints a line that matches ``beat``, if it does. The kernel is the
    file ``kernel``, made by the command ``make`` (both seen from the recipe's directory), or comes from the
    module ``builder``. ``machine`` has the recipe's own ``cpu``, if it names one; ``smp`` is how many.
    """

    name: str
    path: Path
    text: str
    machine: MachineDescription
    personality: Personality
    ready: str = r"\S"
    heartbeat: float | None = None
    beat: str = r"$^"
    boot_deadline: float = 60.0
    kernel: str = ""
    make: tuple[str, ...] = ()
    builder: str = ""
    boot: Boot = Boot()
    smp: int = 1

    def __repr__(self) -> str:
        return f"Recipe({self.name!r}, {self.machine.name}, {self.personality.name})"

    @classmethod
    def find(cls, name: str | Path) -> Recipe:
        """Return a recipe by its name, or the file's when ``name`` ends in ``.toml``.

        Names are those of the bundled ones, of the user's own (``kgdbpatch recipe new``) and of installed
        packages' (entry points ``kgdbpatch.recipes``). Raises `Misuse` with the known ones.
        """
        if str(name).endswith(".toml"):
            return cls.load(Path(name))
        return cls.load(path_of(str(name)))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe; raise `Misuse` naming what is wrong with it."""
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Misuse(f"recipe {path}: {error}") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Recipe:
        """Return the recipe ``text`` of the file ``path``, from where its other files are seen."""
        try:
            return cls._parse(path, text)
        except (ValueError, Misuse) as error:
            raise Misuse(f"recipe {path}: {error}") from error

    @classmethod
    def _parse(cls, path: Path, text: str) -> Recipe:
        table = tomllib.loads(text)
        _check(table, _KEYS, "")
        boot = table.get("boot", {})
        _check(boot, _BOOT, "boot.")
        machine = table.get("machine", "g3beige")
        if machine.endswith(".toml"):
            machine = path.parent / machine
        description = MachineDescription.load(machine)
        if "cpu" in table:
            description = replace(description, cpu=table["cpu"])
        if table.get("smp", 1) < 1:
            raise ValueError("'smp' is a number of CPUs, 1 or more")
        if table.get("smp", 1) > 1 and description.smp_binary:
            description = replace(description, binary=description.smp_binary)
        default = MemoryPlan()
        plan = MemoryPlan(
            table.get("memory_mib", default.memory), table.get("announced_mib", default.announced)
        )
        if plan.announced <= 0 or not (plan.memory == plan.announced or fits(plan.memory, plan.announced)):
            raise ValueError(
                "'memory_mib' less 'announced_mib' (patches lie between) must be a power of two, "
                f"{LEAST} or more, and 'announced_mib' a multiple of that; or both the same: no patches"
            )
        lines = {key: table[key] for key in ("panic", "oops", "log") if key in table}
        for key in (*lines, "ready", "beat"):
            try:
                re.compile(table.get(key, ""))
            except re.error as error:
                raise ValueError(f"'{key}' is no regex: {error}") from error
        if not (table.get("kernel") or table.get("builder")):
            raise ValueError("'kernel' is missing: the kernel's file, seen from the recipe's directory")
        if boot.get("loader", "qemu") not in LOADERS:
            raise ValueError("'boot.loader' is qemu, bootx or device, or as-is or firmware")
        check_arguments(boot.get("args", ()))
        kept: dict[str, Any] = {
            key: table[key] for key in ("ready", "beat", "kernel", "builder", "smp") if key in table
        }
        kept |= {key: float(table[key]) for key in ("heartbeat", "boot_deadline") if key in table}
        order: dict[str, Any] = {key: tuple(boot[key]) if key in _LISTS else boot[key] for key in boot}
        return cls(
            name=path.stem,
            path=path.absolute(),
            text=text,
            machine=description,
            personality=personality(table.get("personality", "bare"), plan, **lines),
            make=tuple(table.get("make", ())),
            boot=Boot(**order),
            **kept,
        )

    @classmethod
    def recorded(cls, metadata: Mapping[str, Any]) -> Recipe:
        """Return the recipe that a running guest was booted by, as its record keeps it; or `Misuse`."""
        found = cls._recorded(metadata)
        lent = metadata.get("borrowed")
        return found if lent is None else found.borrowing(replace(found.memory, **lent))

    def borrowing(self, plan: MemoryPlan) -> Recipe:
        """Return the same recipe with what a guest's kernel has lent."""
        kind = copy(self.personality)
        kind.memory = plan
        return replace(self, personality=kind)

    @classmethod
    def _recorded(cls, metadata: Mapping[str, Any]) -> Recipe:
        if "personality" in metadata:
            from kgdbpatch.guests.attached import attached_recipe

            return attached_recipe(metadata)
        text, path = metadata.get("recipe"), metadata.get("recipe_path")
        if not isinstance(text, str) or not isinstance(path, str):
            return cls.find(str(metadata.get("profile")))  # booted by an older version
        return cls.parse(text, Path(path))

    @property
    def memory(self) -> MemoryPlan:
        """How RAM is shared."""
        return self.personality.memory

    @property
    def nothing_hidden(self) -> str | None:
        """Why no memory for patches is hidden from the kernel, and what would hide some; None where it is."""
        if self.memory.arena_size:
            return None
        line = self._filled(self.boot.command_line, "")
        memory, step = self.memory.memory, self.machine.memory_step_mib
        return no_hidden_memory(self.personality.name, memory, step, line)

    @cached_property
    def _builder(self) -> Any:
        return import_module(self.builder)

    def build(self, progress: Callable[[str], None]) -> Path:
        """Build the kernel when it is not built yet and return its path; raise `BuildFailed`."""
        if self.builder and not self.kernel:
            made: Path = self._builder.build(progress)
            return made
        if self.make:
            progress(f"building the guest '{self.name}'")
            try:
                subprocess.run(self.make, cwd=self.path.parent, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise BuildFailed(f"{self.make[0]} is not installed") from error
            except subprocess.CalledProcessError as error:
                said = (error.stderr or error.stdout).strip().splitlines()
                raise BuildFailed(f"{' '.join(self.make)}: {said[-1] if said else error}") from error
        path = (self.path.parent / self.kernel).absolute()
        if not path.exists():
            raise BuildFailed(f"guest '{self.name}': there is no kernel {path}")
        return path

    def image_path(self) -> Path | None:
        """Return the kernel's path, or None when it is not built."""
        if self.builder and not self.kernel:
            built: Path | None = self._builder.built()
            return built
        path = (self.path.parent / self.kernel).absolute()
        return path if path.exists() else None

    def qemu_args(self, kernel: Path, directory: Path) -> list[str]:
        """Return QEMU's arguments that boot ``kernel``; scratch files go to ``directory``."""
        from kgdbpatch.guests.loaders import drive_args, loader_args  # on use: most commands boot nothing

        command_line = self._filled(self.boot.command_line, str(directory))
        # commas separate options within QEMU's arguments; doubled they stand for themselves
        more = [self._filled(part, str(directory).replace(",", ",,")) for part in self.boot.args]
        cpus = ["-smp", str(self.smp)] if self.smp > 1 else []
        disks = drive_args(self, directory)
        return [*cpus, *disks, *more, *loader_args(self, kernel, directory, command_line)]

    def _filled(self, text: str, directory: str) -> str:
        known = {
            "directory": directory,
            "name": self.name,
            "announced_mib": self.memory.announced,
            "memory_mib": self.memory.memory,
            "timebase_hz": self.machine.timebase_hz,
            "epoch": int(time.time()),
        }
        for key, value in known.items():
            text = text.replace(f"{{{key}}}", str(value))
        return text

    def initrd(self) -> Path | None:
        """Return the initial RAM disk, built by ``builder`` where ``boot.initrd`` is its word; or None."""
        if not self.boot.initrd:
            return None
        if self.builder and "/" not in self.boot.initrd:
            made: Path = getattr(self._builder, self.boot.initrd)(lambda line: None)
            return made
        return (self.path.parent / self.boot.initrd).absolute()

    def drives(self) -> list[Path]:
        """Return the disk images' files."""
        return [(self.path.parent / name).absolute() for name in self.boot.drives]


def _check(table: Mapping[str, Any], keys: Mapping[str, Any], prefix: str) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"'{prefix}{key}' is not known; known are {', '.join(prefix + k for k in keys)}")
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise ValueError(f"'{prefix}{key}' must be {_WORDS[keys[key]]}")
        if isinstance(value, list) and not all(isinstance(word, str) for word in value):
            raise ValueError(f"'{prefix}{key}' must be a list of texts")


_WORDS = {str: "a text", int: "a whole number", list: "a list", dict: "a table", (int, float): "a number"}
