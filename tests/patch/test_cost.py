"""What a hit costs, in instructions that the CPU executes: measured, not reckoned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.plan import Payload, Place, Plan, Site, blob_payload, count_payload, plan

from .matrix.machine import CASE, STACK, STACK_POINTER, needs_machine, private_runtime, run

pytestmark = [pytest.mark.guest, *needs_machine]

HITS = 10_000
NANOSECONDS = 1e9 / 16.6e6  # of a tick of the g3beige's time base; under icount an instruction takes one
CODE, BODIES, COUNTERS, ALIGNED = 0x0100_0000, 0x0110_0000, 0x0120_0000, 0x0130_0000
MFTB = {"start": 0x7E8C_42E6, "end": 0x7ECC_42E6}  # mftb r20, mftb r22
MTCTR, SITE_WORD = 0x7EA9_03A6, encode.addi(9, 9, 1)  # mtctr r21
LEAF = [encode.addi(3, 3, 1), encode.blr()]


def nothing() -> Payload:
    return Payload(emit=lambda _at, _blob: [], clobbers=0, calls=False, counted=False)


def leaf() -> Payload:
    code = b"".join(word.to_bytes(4, "big") for word in LEAF)
    return blob_payload(lambda at: (code, len(code), at), SYSV, LEAF)


@dataclass(frozen=True)
class Costs:
    """What is free, what is put in, where it counts, and what that may cost a hit."""

    name: str
    free: str
    payload: Payload
    most: int
    aligned: bool = False


# the loop itself needs CTR, r9 and r20..r22
COSTS = [
    Costs("empty patch", "", nothing(), 2),
    Costs("count: LR free", "r3 r4 lr cr0", count_payload(), 7),
    Costs("count: LR live, counter aligned", "r3 r4 r5 cr0", count_payload(), 7, aligned=True),
    Costs("count: LR free, counter aligned", "r3 r4 lr cr0", count_payload(), 6, aligned=True),
    Costs("count: LR live", "r3 r4 r5 cr0", count_payload(), 8),
    Costs("count: CR0 live", "r3 r4 r5", count_payload(), 10),
    Costs("count: CR0 live, CR7 free", "r3 r4 cr7", count_payload(), 10),
    Costs("count: one register free", "r3 cr0", count_payload(), 12),
    Costs("count: nothing free", "", count_payload(), 18),
    # by hand: b, the count's six, bl, the two of the function, b
    Costs("C function, what it changes is free", "r3 r4 r5 lr cr0", leaf(), 11),
    # by hand: stwu, stw, mflr, .. lwz, mtlr, addi besides
    Costs("C function, what it changes is live", "r4 r5 cr0", leaf(), 11 + 6),
]


def _plan(number: int, cost: Costs) -> tuple[int, Plan]:
    site = CODE + 0x100 * number + 8
    free = frozenset(cost.free.split())
    counter = ALIGNED + 0x1_0000 * number if cost.aligned else COUNTERS + 8 * number + 4
    place = Place(BODIES + 0x200 * number, None, counter)
    return counter, plan(Site(decode(SITE_WORD, site), free, free, SYSV), cost.payload, place)


def test_costs_of_a_hit() -> None:
    plans = [_plan(number, cost) for number, cost in enumerate(COSTS)]
    plain: dict[int, int] = {}
    patched: dict[int, int] = {}
    cases = np.zeros(len(COSTS), CASE)
    for number, (_, made) in enumerate(plans):
        entry = CODE + 0x100 * number
        loop = [MFTB["start"], MTCTR, SITE_WORD, encode.bc(16, 0, 12, 8), MFTB["end"]]
        plain |= {entry + 4 * index: word for index, word in enumerate(loop)}
        code = np.frombuffer(made.code, ">u4").tolist()
        patched |= {made.body + 4 * index: word for index, word in enumerate(code)}
        patched[made.site] = made.splice
        cases[number]["entry"], cases[number]["site"], cases[number]["msr"] = entry, made.site, 0x1000
        cases[number]["r"][1], cases[number]["r"][21] = STACK_POINTER["sysv"], HITS
    counters = [counter for counter, _ in plans]
    stack = bytes(len(STACK))
    with private_runtime():
        before = run("cost-before", plain, cases, counters, stack).results["r"].astype(np.int64)
        after = run("cost-after", plain | patched, cases, counters, stack)
    registers = after.results["r"].astype(np.int64)
    assert np.array_equal(before[:, 9], registers[:, 9]), "the loops ran as often"
    ticks = (registers[:, 22] - registers[:, 20]) - (before[:, 22] - before[:, 20])
    extra = ticks * NANOSECONDS / HITS
    table = "\n".join(f"{cost.name:40} {more:6.2f}" for cost, more in zip(COSTS, extra, strict=True))
    print(f"\n{table}")
    assert all(round(more) <= cost.most for cost, more in zip(COSTS, extra, strict=True)), table
    assert all(abs(more - round(more)) < 0.1 for more in extra), f"not whole instructions:\n{table}"
    hits = [hits for cost, hits in zip(COSTS, after.counters, strict=True) if cost.payload.counted]
    assert hits == [HITS] * len(hits)
