"""What a hit of a patch costs, in guest instructions counted by QEMU under ``-icount``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from kgdbpatch.errors import CommandFailed
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.patch.trap import HOOK_SIZE

__all__ = ["ICOUNT", "Cost", "hit_cost"]

ICOUNT = "shift=0,sleep=off"  # one instruction takes 1 ns of the guest's time; no waiting for the host's
_HITS = 3
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What one hit costs.

    ``instructions`` = ``glue`` + ``payload`` is what the guest executes more than without the
    patch: the median of some hits, which lay from ``least`` to ``most``. ``average`` is the same
    from a loop that runs at full speed. ``stop_ms`` milliseconds the guest stands still, in
    ``stops`` stops, for ``round_trips`` packets of GDB.
    """

    what: str
    instructions: int
    glue: int | None
    payload: int | None
    least: int
    most: int
    average: float | None = None
    stop_ms: float = 0.0
    stops: int = 0
    round_trips: float = 0.0


def _trace(kernel: Kernel, site: str | int) -> list[int]:
    """Return the addresses executed at a hit in which no page was missing: that is another's cost."""
    for _ in range(_TRIES):
        with suppress(CommandFailed):  # a step into an exception executes nothing, and QEMU counts none
            return kernel.trace(site)
    return kernel.trace(site)


def hit_cost(
    kernel: Kernel,
    site: str | int,
    applied: Patch | None,
    *,
    inline: int = 0,
    hits: int = _HITS,
    what: str = "",
) -> Cost:
    """Return the cost of a hit at ``site``, whose original instruction is not part of it.

    ``inline`` instructions of an assembler payload stand between the glue. Without ``applied``
    something else than a patch works there: glue and payload are not told apart.
    """
    traces = sorted((_trace(kernel, site) for _ in range(hits)), key=len)
    costs = [len(trace) - 1 for trace in traces]
    trace = traces[len(traces) // 2]
    payload = None
    if applied is not None:
        glue = [range(applied.site, applied.site + 4)]
        glue.append(range(applied.body, applied.body + 4 * applied.body_words))
        if applied.springboard is not None:
            glue.append(range(applied.springboard, applied.springboard + 4 * applied.springboard_words))
        hook = kernel.header.hook
        if applied.entry == "trap" and hook is not None:
            vector, start = hook.vector - hook.shift, hook.at - hook.shift
            glue += [range(vector, vector + 4), range(start, start + HOOK_SIZE)]
        payload = inline + sum(not any(pc in part for part in glue) for pc in trace)
    cost = len(trace) - 1
    split = None if payload is None else cost - payload
    return Cost(what, cost, split, payload, min(costs), max(costs))
