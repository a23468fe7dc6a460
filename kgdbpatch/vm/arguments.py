"""Arguments of QEMU that a user adds: which of them are given otherwise, or would be in our way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kgdbpatch.errors import Misuse

__all__ = ["check_arguments"]

_DEBUGGER = "QEMU's debugger port is kgdbpatch's own"
_MONITOR = "kgdbpatch has the monitor; 'kgdbpatch attach' is for a QEMU of your own"
_SNAPSHOT = "disks given by --drive are never written anyway, and snapshots need their own"
_STATE = "a guest begins with its power-on; 'kgdbpatch snapshot' saves and restores states"
_HELP = "ask QEMU itself"
_TAKEN = {
    "gdb": _DEBUGGER,
    "s": _DEBUGGER,
    "S": "the guest would never be ready; 'kgdbpatch pause' halts it",
    "preconfig": "the guest would never be ready",
    "qmp": _MONITOR,
    "qmp-pretty": _MONITOR,
    "mon": _MONITOR,
    "monitor": _MONITOR,
    "kernel": "say --kernel (in a recipe: kernel)",
    "initrd": "say --initrd (in a recipe: initrd)",
    "append": "say --append (in a recipe: command_line)",
    "cpu": "say --cpu (in a recipe: cpu)",
    "smp": "say --smp (in a recipe: smp)",
    "m": "say --memory (in a recipe: memory_mib)",
    "mem-path": "the guest's RAM is a memory file of kgdbpatch's own",
    "mem-prealloc": "the guest's RAM is a memory file of kgdbpatch's own",
    "icount": "say --icount",
    "name": "say --name",
    "pidfile": "kgdbpatch keeps QEMU's process id itself",
    "daemonize": "the guest goes on running anyway",
    "snapshot": _SNAPSHOT,
    "loadvm": _STATE,
    "incoming": _STATE,
    "h": _HELP,
    "help": _HELP,
    "version": _HELP,
}
_MACHINE = {"M", "machine"}
_OURS = ("type", "memory-backend")  # properties of a machine


def check_arguments(words: Sequence[str]) -> None:
    """Raise `Misuse` naming the first argument that kgdbpatch passes itself or that would break it.

    >>> check_arguments(["-device", "virtio-rng-pci", "-machine", "usb=off"])
    """
    for word, following in pairwise([*words, ""]):
        name = word[1:].removeprefix("-") if word.startswith("-") else ""
        if name in _MACHINE:
            _check_machine(word, following)
        elif name in _TAKEN:
            raise Misuse(f"QEMU's argument {word} cannot be given: {_TAKEN[name]}")


def _check_machine(word: str, value: str) -> None:
    first, *more = value.split(",")
    for part in (first, *more):
        key, given, _ = part.partition("=")
        if not given and part == first:
            raise Misuse(
                f"QEMU's argument {word} {first} cannot be given: say --machine (in a recipe: machine)"
            )
        if key in _OURS:
            raise Misuse(f"QEMU's argument {word} {part} cannot be given: kgdbpatch says it itself")
