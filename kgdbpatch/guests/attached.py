"""The recipe of a guest that nobody here booted: what its record says of its kernel and of its memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.guests.recipe import Recipe
from kgdbpatch.personality import MemoryPlan, Personality, personality
from kgdbpatch.personality.base import MIB
from kgdbpatch.vm.machine import MachineDescription

__all__ = ["address_range", "attached_recipe", "named_arena", "recipe_for", "unused_memory"]

_LEAST, _MOST = 32, 128  # MiB: the patch table takes half of the least; more is never used up


def attached_recipe(metadata: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a guest that was attached to; raise `Misuse` for an unfinished record."""
    try:
        kind, plan = metadata["personality"], MemoryPlan(**metadata["memory"])
    except (KeyError, TypeError) as error:
        raise Misuse("the guest was not attached to wholly; detach it") from error
    return recipe_for(personality(kind, plan))


def recipe_for(kind: Personality) -> Recipe:
    """Return the recipe of a guest with this operating system, on a machine of which nothing is known."""
    machine = MachineDescription(
        name="attached",
        machine="",
        binary="qemu-system-ppc",
        cpu="",
        architecture="powerpc:common",
        max_memory_mib=kind.memory.memory,
        args=(),
        console=(),
    )
    return Recipe(kind.name, Path(), "", machine, kind, ready=r"(?!)")


def unused_memory(size: int, used: int) -> MemoryPlan | None:
    """Return a plan whose block for patches (a power of two, MiB) is RAM that the kernel does not use.

    ``size`` and ``used`` in bytes. It is the largest block at the end of RAM; None where there is none.
    """
    block = _MOST
    while block >= _LEAST:
        end = size // MIB // block * block
        if end - block >= max(-(-used // MIB), block):
            return MemoryPlan(end, end - block)
        block //= 2
    return None


def address_range(option: str, text: str, what: str) -> tuple[int, int]:
    """Return what a user names as ``START..END`` by an option; raise `Misuse` for what is none."""
    try:
        start, end = (int(part, 0) for part in text.split(".."))
    except ValueError:
        raise Misuse(f"{option} '{text}' is not START..END, {what}") from None
    return start, end


def named_arena(text: str, size: int) -> MemoryPlan:
    """Return the plan for the physical range that a user names, ``START..END``; ``size`` is the RAM's.

    Raises `Misuse` for what is no range, `Refused` (rule ``memory``) for one that will not do.
    """
    start, end = address_range("--arena", text, "physical addresses: 0x10000000..0x12000000")
    block = end - start
    if block < _LEAST * MIB or block & (block - 1) or start % block or not start or end > size:
        raise Refused(
            "memory",
            f"--arena {text}: it must be {_LEAST} MiB or more, a power of two, begin at a multiple of that "
            f"that is not 0, and lie in the guest's {size // MIB} MiB of RAM",
        )
    return MemoryPlan(end // MIB, start // MIB)
