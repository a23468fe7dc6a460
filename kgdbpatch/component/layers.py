"""Layers, the patches of one site: take some out, from the middle too."""

from __future__ import annotations

from collections.abc import Sequence

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena, checksum, field_offset
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.table import Record
from kgdbpatch.patch.reach import jump
from kgdbpatch.vm.ram import Readable

__all__ = ["remove_layers"]


def remove_layers(ram: Readable, arena: Arena, layers: Sequence[Record], ids: set[int]) -> list[Command]:
    """Return the commands that take the patches ``ids`` out of those of one site, newest first.

    Those on top are withdrawn. The patch above others that go is led on to where they lead:
    to the patch below, or to the moved instruction in the removed body, which is kept as
    long as that is needed.
    """
    commands: list[Command] = []
    above: Record | None = None
    for index, record in enumerate(layers):
        if record.id not in ids:
            above = record
        elif above is None:
            commands.append(Command(Op.WITHDRAW, arena.slot(record.slot), 1))
        else:
            if index + 1 == len(layers) or layers[index + 1].id not in ids:
                commands += _lead_on(ram, arena, above, record)
            commands.append(Command(Op.STORE, arena.slot(record.slot), State.RETIRED))
    return commands


def _lead_on(ram: Readable, arena: Arena, above: Record, gone: Record) -> list[Command]:
    """Return the commands that let ``above`` go on where ``gone`` does, one word changed."""
    slot = arena.slot(above.slot)
    if above.data:
        return [Command(Op.STORE, slot + field_offset("original", layout.RECORD), gone.original)]
    target, link = arena.onward(gone) if gone.onward else (gone.body + 4 * gone.tail, gone.splice & 1)
    at = above.body + 4 * above.onward
    words = jump(at, target, frozenset())
    assert words is not None, "the bodies of an arena are in reach of each other"
    onward = words[0] | link
    body = bytearray(ram.read(arena.inside(above.body), above.constant_size))
    found = int.from_bytes(body[4 * above.onward : 4 * above.onward + 4], "big")
    body[4 * above.onward : 4 * above.onward + 4] = onward.to_bytes(4, "big")
    crc = checksum(bytes(body), arena.springboard_code(above.springboard, above.springboard_slots))
    return [
        Command(Op.SPLICE, arena.inside(at), found, onward),
        Command(Op.STORE, slot + field_offset("original", layout.RECORD), gone.original),
        Command(Op.STORE, slot + field_offset("crc", layout.RECORD), crc),
    ]
