"""Put hand-written patches in, to compare ours with: see README beside this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.isa import encode
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.patch.plan import Place, Plan
from kgdbpatch.patch.reach import jump
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.toolchain.assemble import assemble

__all__ = ["LEAF", "by_hand", "hand_written"]

_HERE = Path(__file__).parent
LEAF = _HERE / "leaf.c"


def hand_written(profile: str, what: str) -> Path:
    """Return the hand-written body for a profile's site; ``what`` is ``leaf`` or ``call``."""
    return _HERE / f"{profile}-{what}.s"


@contextmanager
def by_hand(kernel: Kernel, site: str, c: Path, body: Path) -> Iterator[Patch]:
    """Keep a patch that calls the C file's function at ``site`` in, with a hand-written body."""
    header = kernel.header
    planner = kernel._planner(header)
    slot, made = planner.plan_site(kernel.resolve(site), planner.payload(PatchRequest(c=c)))
    counter = kernel._component.arena(header.arena).plan.virtual + layout.TABLE_OFFSET
    counter += slot * layout.RECORD.itemsize + field_offset("hits", layout.RECORD)
    plan = _rewritten(made, counter, body, header.arena.near_shift if made.springboard_used else 0)
    (patch_id,) = kernel._component.apply(header, [(slot, plan)])
    patch = Patch.planned(kernel, patch_id, plan, kernel._component.pause)
    with patch:
        yield patch


def _rewritten(made: Plan, counter: int, body: Path, shift: int) -> Plan:
    """Return the plan with another body, at an address within reach."""
    place = Place(made.body + shift, None, counter)
    words = np.frombuffer(made.code, ">u4").tolist()[: made.body_words]
    calls = (
        (place.body + 4 * index, word)
        for index, word in enumerate(words)
        if word & 0xFC00_0003 == 0x4800_0001
    )
    at, word = next(calls)
    function = encode.branch_target(at, word)
    assert function is not None
    symbols = {"counter": counter, "function": function, "back": made.site + 4}
    code = _assemble(body, place.body, symbols)
    splice = jump(made.site, place.body, frozenset())
    assert splice is not None
    blob = -(-4 * made.body_words // 16) * 16
    assert len(code) <= blob, "longer than ours"
    return made._replace(
        splice=splice[0],
        body=place.body,
        code=code.ljust(blob, b"\0") + made.code[blob:],
        body_words=len(code) // 4,
        springboard=None,
        springboard_code=b"",
        tail=len(code) // 4 - 2,
    )


def _assemble(body: Path, origin: int, symbols: dict[str, int]) -> bytes:
    """Assemble a body; its jump back, out of a relative branch's reach or not, is made for it."""
    call = (_HERE / "counted-call.s").read_text()
    source = body.read_text().replace("        counted call\n", call)
    back = jump(origin, symbols["back"], frozenset())
    assert back is not None
    if back[0] & 2:
        source = source.replace("b       back", "ba      back")
    return assemble(source, origin=origin, symbols=symbols, filename=str(body))
