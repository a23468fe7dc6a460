"""Read the tables by which a Linux kernel diverts control where no branch stands.

``__ex_table`` sends faulting instructions to their fix-ups; ``__jump_table`` lists the nops and
branches that the kernel turns into each other while it runs. Both hold offsets relative to
themselves. Liveness needs them: what a fix-up reads is live at the access that may fault.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["hidden_edges"]

_EXCEPTION_WORDS = 2  # instruction, fix-up
_JUMP_WORDS = 3  # place, target, key


def _entries(table: tuple[int, bytes], words: int) -> npt.NDArray[np.int64]:
    """Return the first two words of each entry as addresses."""
    address, data = table
    count = len(data) // (4 * words)
    offsets = np.frombuffer(data, ">i4", count * words).astype(np.int64)
    places = address + 4 * np.arange(offsets.size)
    return ((places + offsets) & 0xFFFFFFFF).reshape(-1, words)[:, :2]


def hidden_edges(
    exceptions: tuple[int, bytes] = (0, b""), jumps: tuple[int, bytes] = (0, b"")
) -> dict[int, tuple[int, ...]]:
    """Return where control may go from an instruction unseen, from tables given as (address, bytes)."""
    edges: dict[int, set[int]] = {}
    for site, fixup in _entries(exceptions, _EXCEPTION_WORDS).tolist():
        edges.setdefault(site, set()).add(fixup)
    for site, target in _entries(jumps, _JUMP_WORDS).tolist():
        edges.setdefault(site, set()).update((target, site + 4))
    return {site: tuple(sorted(targets)) for site, targets in edges.items()}
