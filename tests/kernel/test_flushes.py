"""Whatever becomes code is flushed before anything leads to it, wherever it lies."""

from __future__ import annotations

import pytest
from analysis.code import needs_as

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Op
from kgdbpatch.cpu.ppc6xx import Ppc6xx, stub
from kgdbpatch.image import Image
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.personality.bare import Bare

from .tiny import COUNT, Far, Near, Tiny

pytestmark = needs_as


def flushed(orders: list[tuple[Op, int, int]]) -> set[int]:
    """Return the physical addresses of the words that were flushed before the first splice."""
    first = next((n for n, (op, _, _) in enumerate(orders) if op is Op.APPLY), len(orders))
    return {at for op, a, b in orders[:first] if op is Op.FLUSH for at in range(a, a + b, 4)}


@pytest.mark.parametrize(
    ("system", "via"), [(Near, "auto"), (Far, "auto"), (Near, "trap"), (Far, "trap"), (Far, "tails")]
)
@pytest.mark.parametrize("request_", [COUNT, PatchRequest(call="deeper")], ids=["count", "call"])
def test_all_of_a_patch(image: Image, system: type[Bare], via: str, request_: PatchRequest) -> None:
    tiny = Tiny(image, system())
    tiny.machine.orders.clear()
    tiny.apply("leaf0", "leaf1", request=request_, via=via)
    done, arena = flushed(tiny.machine.orders), tiny.arena
    code = list[int]()
    for record in tiny.records:
        code += range(arena.inside(record.body), arena.inside(record.body) + record.constant_size, 4)
        if record.springboard is not None:
            board = arena.springboard(record.springboard)
            code += range(board, board + layout.SPRINGBOARD_SIZE * record.springboard_slots, 4)
    hook = tiny.header.hook
    if hook is not None:
        code += [at - hook.shift for at in Ppc6xx().hook_words(hook)]
    assert set(code) - done == set()
    assert (hook is not None) == (via == "trap")


def test_what_the_component_itself_is(image: Image) -> None:
    tiny = Tiny(image, Near())
    start = tiny.arena.plan.physical + layout.STUB_OFFSET
    assert flushed(tiny.machine.orders) >= set(range(start, start + len(stub.CODE), 4))


def test_a_springboard_that_goes_is_flushed_away(image: Image) -> None:
    """Its place is the kernel's own: a CPU must not find the old words there."""
    tiny = Tiny(image, Far())
    tiny.apply("leaf0", via="tails")
    words = tiny.arena.tail_words(tiny.arena.table().raw)
    tiny.machine.orders.clear()
    tiny.remove(1)
    assert words
    assert flushed(tiny.machine.orders) >= set(words)
