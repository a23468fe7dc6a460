"""Tell from return addresses who has called a function: by a call, a pointer, another's jump."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kgdbpatch.isa.decode import Instruction
from kgdbpatch.profiles.rows import CallerRow

__all__ = ["caller_rows"]

Kind = tuple[str, int | None]


def _kind(before: Instruction | None, function: int) -> Kind:
    """Return how the instruction before a return address calls, and what it calls instead of ``function``."""
    if before is None or not before.links:
        return "jump", None
    if before.target is None:
        return "pointer", None
    return ("call", None) if before.target == function else ("tail", before.target)


def caller_rows(
    counts: Mapping[int, int],
    function: int,
    instruction: Callable[[int], Instruction | None],
    symbolize: Callable[[int], str],
    *,
    patched: Callable[[int], bool] = lambda _: False,
    lost: int = 0,
) -> list[CallerRow]:
    """Return the callers of ``function``, the busiest first; ``counts`` are by the return address.

    ``instruction`` gives the kernel's own ones, None where there is none; ``patched`` tells a patch's code.
    """
    total = sum(counts.values()) + lost
    rows = []
    for back, count in counts.items():
        site = back - 4
        kind, other = ("patch", None) if patched(site) else _kind(instruction(site), function)
        through = None if other is None else symbolize(other)
        rows.append(CallerRow(site, symbolize(site), kind, through, count, round(count / total, 4), lost))
    return sorted(rows, key=lambda row: (-row.count, row.site))
