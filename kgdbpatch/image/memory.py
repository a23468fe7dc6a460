"""Make an `Image` of a running Linux from its RAM alone: for a kernel whose file nobody has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from kgdbpatch.errors import BadImage
from kgdbpatch.image.image import Image
from kgdbpatch.image.kallsyms import find_kallsyms
from kgdbpatch.image.raw import linux_contents

__all__ = ["image_from_memory"]

_GAP = 1 << 20  # pieces of RAM with no more than this between them are looked at as one


def image_from_memory(name: str, pieces: Iterable[tuple[int, bytes]]) -> Image:
    """Return the kernel in ``pieces`` (physical address, contents) of RAM, or `BadImage`.

    Its ``.text`` is what runs, patches included; what was given back after its start is no code any more.
    """
    for start, memory in _joined(pieces):
        found = find_kallsyms(memory)
        if found is not None:
            contents = linux_contents(name, memory, found, start)
            digest = hashlib.sha256(contents.segments[0].data).hexdigest()
            return Image(Path(f"memory:{name}"), "elf", digest, contents)
    raise BadImage(name, "no symbols of a Linux kernel (kallsyms) in the guest's memory")


def _joined(pieces: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    joined: list[tuple[int, bytearray]] = []
    for start, data in pieces:
        if joined and start - (joined[-1][0] + len(joined[-1][1])) <= _GAP:
            first, before = joined[-1]
            before += bytes(start - first - len(before)) + data
        else:
            joined.append((start, bytearray(data)))
    return [(start, bytes(data)) for start, data in joined]
