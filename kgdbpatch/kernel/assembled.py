"""Make a payload of an assembler file: assembled wherever it is to be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

import numpy as np

from kgdbpatch.errors import OutOfReach, Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel.noted import using
from kgdbpatch.patch.payload import Payload, asm_payload
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.toolchain.assemble import assemble

__all__ = ["assembled_payload"]


def assembled_payload(
    request: PatchRequest,
    image: Image,
    lookup: Callable[[str], int],
    places: Sequence[int],
    stack: int,
    used: Collection[int],
) -> Payload:
    """Return the payload of an assembler text, which may stand at ``places``; ``stack`` in bytes.

    ``used`` are the patches that ``lookup`` has found names in so far. Raises `BadPatch`, of it `OutOfReach`
    where a branch gets to its target from none of the places.
    """
    source, filename = request.assembler()
    model = image.model

    @cache
    def words(address: int) -> list[int]:
        code = assemble(source, origin=address, symbols=lookup, filename=filename, model=model)
        return [int(word) for word in np.frombuffer(code, ">u4")]

    origin = _origin(words, places)
    same = _anywhere(words, origin)

    def placed(address: int) -> list[int]:
        try:
            return words(origin if same else address)
        except OutOfReach as error:
            raise Refused("reach", str(error)) from error

    payload = asm_payload(placed, origin, image.abi, counted=request.count, stack=stack, model=model)
    payload = payload._replace(instead=request.replace)
    uses = frozenset(used)
    if not uses:
        return payload
    return payload._replace(note=lambda _: using(filename, uses), strays=True, uses=True)


def _origin(words: Callable[[int], list[int]], places: Sequence[int]) -> int:
    """Return the first place at which assembler can stand; or raise `OutOfReach`."""
    *others, last = places
    for place in others:
        try:
            words(place)
        except OutOfReach:
            continue
        return place
    words(last)
    return last


def _anywhere(words: Callable[[int], list[int]], origin: int) -> bool:
    """Tell whether a payload's words are the same wherever it stands."""
    try:
        return words(origin) == words(origin + 0x1_2340)
    except OutOfReach:
        return False
