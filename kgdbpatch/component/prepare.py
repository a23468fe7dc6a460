"""What is written before a patch is spliced: its record, its body and its springboard, in few pieces.

Springboards in the unused tails of the exception vectors are written and zeroed word by word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena, checksum, header_checksum
from kgdbpatch.component.layout import NO_ENTRY, BlockEntries, Flag, Linear, Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.table import forced_flags
from kgdbpatch.errors import Outdated
from kgdbpatch.personality.base import ArenaPlan

if TYPE_CHECKING:
    from kgdbpatch.patch.plan import Plan

__all__ = ["header_of", "in_tails", "out_of_tails", "pieces", "records"]


def header_of(
    arena: ArenaPlan,
    entries: Sequence[BlockEntries],
    baseline: bytes,
    image_sha256: str,
    linear: Linear = Linear.NO,
) -> bytes:
    """Return the header of an arena without patches, with that ``baseline`` behind it, no magic."""
    header = np.zeros(1, layout.HEADER)
    header["version"] = layout.VERSION
    header["physical"], header["size"], header["virtual"] = arena.physical, arena.size, arena.virtual
    header["linear"] = linear
    header["next_id"], header["baseline_count"] = 1, len(baseline) // layout.BASELINE.itemsize
    for prefix, pair in zip(("", "near_"), entries, strict=False):
        header[f"{prefix}code_entry"] = NO_ENTRY if pair.instruction is None else pair.instruction
        header[f"{prefix}data_entry"] = NO_ENTRY if pair.data is None else pair.data
    if arena.near is not None:
        header["near"] = arena.near.start
        header["near_size"] = arena.near.end - arena.near.start
    if arena.tails is not None:
        header["tails"], header["tails_end"] = arena.tails.start, arena.tails.end
    if arena.springboards is not None:
        header["springboards"] = arena.springboards.start
        header["springboards_end"] = arena.springboards.end
    header["image_sha256"] = bytes.fromhex(image_sha256)
    header["crc"] = header_checksum(header.tobytes(), baseline)
    return header.tobytes()


def records(
    ordered: Sequence[tuple[int, Plan]],
    ids: dict[int, int],
    to_physical: Callable[[int], int | None],
    module: Callable[[int], int],
) -> npt.NDArray[np.void]:
    """Return the table's records of plans, each with its table slot; ``ids`` by slot.

    ``module`` returns the number of the module that a site is in. Raises `Outdated` where a site has no
    memory any more.
    """
    found = np.zeros(len(ordered), layout.RECORD)
    for record, (slot, plan) in zip(found, ordered, strict=True):
        physical = to_physical(plan.site)
        if physical is None:
            raise Outdated(f"there is no memory any more at 0x{plan.site:08x}; what was planned is outdated")
        record["id"], record["site"], record["site_physical"] = ids[slot], plan.site, physical
        record["original"], record["splice"] = plan.original, plan.splice
        record["body"], record["body_size"] = plan.body, len(plan.code)
        record["constant_size"] = plan.constant_size
        record["module"] = module(plan.site)
        record["flags"] = Flag.COUNTED * plan.counted | forced_flags(plan.forced)
        record["flags"] |= Flag.ONWARD * bool(plan.onward) | Flag.GUARDED * plan.guarded
        record["flags"] |= Flag.REPLACES * plan.replaces | Flag.NOTED * plan.noted
        record["flags"] |= Flag.USES * plan.uses | Flag.CALLED * plan.hands_out
        record["glue_words"] = plan.body_words
        record["springboard"] = plan.springboard or 0
        record["springboard_slots"] = len(plan.springboard_code) // layout.SPRINGBOARD_SIZE
        record["crc"] = checksum(plan.code[: plan.constant_size], plan.springboard_code)
        record["guard_start"], record["guard_end"] = plan.guard
        record["tail"] = plan.tail
    return found


def pieces(parts: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return (address, bytes) in as few pieces as there are; the gaps of alignment are zeroed."""
    found: list[tuple[int, bytearray]] = []
    for at, code in sorted(parts):
        if found and 0 <= at - (found[-1][0] + len(found[-1][1])) < layout.BODY_ALIGNMENT:
            found[-1][1].extend(bytes(at - found[-1][0] - len(found[-1][1])) + code)
        else:
            found.append((at, bytearray(code)))
    return [(at, bytes(code)) for at, code in found]


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
    places = arena.tail_words(records)
    return [one for at in places for one in (Command(Op.STORE, at, 0), Command(Op.FLUSH, at, 4))]
