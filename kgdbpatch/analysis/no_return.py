"""Find the calls that never come back, in code of which nobody knows where functions begin.

A callee comes back when some path from its first word leads to a return, or to anything of which
nobody knows where it leads. At first every call is taken to come back; each one whose callee is
seen not to closes paths, so that more callees are seen not to: until nothing changes any more.
"""

from __future__ import annotations

import numpy as np

from kgdbpatch.analysis.arrays import Grouped, distinct
from kgdbpatch.analysis.program import Flags, Indices, Program
from kgdbpatch.isa.decode import Kind

__all__ = ["final_calls"]

_LEAVES = [int(kind) for kind in (Kind.RETURN, Kind.INDIRECT, Kind.RFI, Kind.UNKNOWN)]


def final_calls(program: Program) -> Flags:
    """Tell which words are direct calls behind which control never comes."""
    count = len(program.words)
    final = np.zeros(count, dtype=np.bool_)
    if not count:
        return final
    kind, conditional = program.decoded.kind, program.decoded.conditional
    source, _, target = program.branches
    calling = (kind[source] == Kind.CALL) & (target != source + 1)  # bl .+4 only reads the pc
    jumping = kind[source] != Kind.CALL

    leader = np.zeros(count + 1, dtype=np.bool_)
    leader[0] = True
    leader[1:] |= program.transfers | ~program.contiguous
    leader[source[calling] + 1] = True
    leader[target[target >= 0]] = True
    block = np.cumsum(leader[:count]) - 1
    first = np.flatnonzero(leader[:count])
    last = np.append(first[1:], count) - 1

    leaves = np.isin(kind[last], _LEAVES)
    falls = ~program.transfers[last] | conditional[last]
    ends = falls & (~program.contiguous[last] | (last == count - 1))
    falls &= ~ends
    away = source[jumping & (target < 0)]
    leaves[block[away]] = True
    leaves |= ends
    known = jumping & (target >= 0)
    jumps = block[source[known]], block[target[known]]
    calls = calling & (target >= 0) & ~conditional[source]
    caller, callee = block[source[calls]], block[target[calls]]

    while True:
        behind = np.flatnonzero(falls)
        edges = np.concatenate([jumps[0], behind]), np.concatenate([jumps[1], behind + 1])
        returns = _lead_to(leaves, *edges)
        closed = caller[~returns[callee] & falls[caller]]
        if not len(closed):
            break
        falls[closed] = False
    final[last[caller[~returns[callee]]]] = True
    return final


def _lead_to(goals: Flags, source: Indices, target: Indices) -> Flags:
    """Tell from which blocks edges (source, target) lead to a goal."""
    before = Grouped(target, source, len(goals))
    found = goals.copy()
    pending = np.flatnonzero(goals)
    while len(pending):
        more = before.of(pending)
        pending = distinct(more[~found[more]])
        found[pending] = True
    return found
