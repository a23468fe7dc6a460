"""What a removal says of each patch, on RAM alone."""

from __future__ import annotations

from analysis.code import needs_as

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.image import Image
from kgdbpatch.patch.request import PatchRequest

from .tiny import COUNT, STACK, Near, Tiny

pytestmark = needs_as


def test_each_is_told_as_it_was_with_what_became_of_it(image: Image) -> None:
    tiny = Tiny(image, Near())
    for site, request in (("leaf0", COUNT), ("leaf1", PatchRequest(asm="nop")), ("leaf2", COUNT)):
        tiny.apply(site, request=request)
    for record, hits in zip(tiny.records, (7, 0, 9), strict=True):
        tiny.ram.put(tiny.arena.slot(record.slot) + field_offset("hits", layout.RECORD), hits)
    tiny.ram.put(STACK + 0x100, tiny.records[2].body + 4, 0x9032)  # somebody is in the last one
    done = tiny.remove(3, 1, 2)
    assert [(row.id, row.site, str(row.state), row.hits, row.entry) for row in done.patches] == [
        (3, image.lookup("leaf2"), "retired", 9, "branch"),
        (1, image.lookup("leaf0"), "removed", 7, "branch"),
        (2, image.lookup("leaf1"), "removed", None, "branch"),
    ]
    assert done.retired == [3]
