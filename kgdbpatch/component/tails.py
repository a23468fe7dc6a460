"""Springboards in the unused tails of the exception vectors: written and zeroed word by word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command

if TYPE_CHECKING:
    from kgdbpatch.patch.plan import Plan

__all__ = ["in_tails", "out_of_tails"]


def in_tails(arena: Arena, plans: Sequence[Plan]) -> list[Command]:
    """Return the commands that write the springboards of ``plans`` that lie in vector tails."""
    commands = list[Command]()
    for plan in plans:
        if plan.springboard is not None and arena.in_tails(plan.springboard):
            at = arena.springboard(plan.springboard)
            words = np.frombuffer(plan.springboard_code, ">u4").tolist()
            commands += [Command(Op.STORE, at + 4 * index, word) for index, word in enumerate(words)]
            commands.append(Command(Op.FLUSH, at, len(plan.springboard_code)))
    return commands


def out_of_tails(arena: Arena, records: npt.NDArray[np.void]) -> list[Command]:
    """Return the commands that zero the springboards of ``records`` in vector tails."""
    return [
        command
        for at in arena.tail_words(records)
        for command in (Command(Op.STORE, at, 0), Command(Op.FLUSH, at, 4))
    ]
