"""What it means that the stub could not do a command: the error that a user is told."""

from __future__ import annotations

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.component.table import Table
from kgdbpatch.errors import Refused

__all__ = ["apply_error", "removal_error"]


def apply_error(error: StubFailed, site: int, expected: int) -> Exception:
    """Return the error that says why the site's patch, made for the word ``expected``, was not put in."""
    if error.op is Op.MAP:
        return Refused("mapping", "the kernel's page table has no entry left for the springboards' page")
    if error.op != Op.APPLY:
        return error
    return Refused(
        "expected",
        f"the word at 0x{site:08x} is 0x{error.result:08x}, not 0x{expected:08x} as expected; "
        "nothing was changed",
        site,
    )


def removal_error(error: StubFailed, command: Command, arena: Arena, now: Table, ids: set[int]) -> Exception:
    """Return the error that says at which patch the removal of ``ids`` ended, and which are out."""
    if error.op != Op.WITHDRAW:
        return error
    slot = (command.a - arena.slot(0)) // layout.RECORD.itemsize + error.done
    record = now.record(int(np.flatnonzero(now.slots == slot)[0]))
    wanted = now.select(np.isin(now.raw["id"], list(ids)))
    out = sorted(wanted.raw["id"][wanted.raw["state"] == State.RETIRED].tolist())
    told = f"out are {', '.join(map(str, out))}, the others are left in" if out else "nothing was changed"
    return Refused(
        "expected",
        f"the word at 0x{record.site:08x} is 0x{error.result:08x}, not 0x{record.splice:08x} as patch "
        f"{record.id} expects; {told}",
        record.site,
    )
