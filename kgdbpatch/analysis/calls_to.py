"""Find the instructions that branch to an address, in all of a kernel's code."""

from __future__ import annotations

import numpy as np

from kgdbpatch.image import Image

__all__ = ["calls_to"]

_BRANCH = 18  # the primary opcode of b, bl, ba and bla


def calls_to(image: Image, target: int) -> list[int]:
    """Return the addresses of ``bl`` and of tail calls (``b`` out of another function) to ``target``."""
    found: list[int] = []
    for section in image.code_sections():
        words = np.frombuffer(section.data[: len(section.data) & ~3], ">u4").astype(np.int64)
        offsets = ((words & 0x03FF_FFFC) ^ 0x0200_0000) - 0x0200_0000
        places = section.address + 4 * np.arange(len(words))
        goals = np.where(words & 2, offsets, places + offsets) & 0xFFFF_FFFF
        chosen = places[(words >> 26 == _BRANCH) & (goals == target)]
        linked = words[(chosen - section.address) // 4] & 1
        for place, links in zip(chosen.tolist(), linked.tolist(), strict=True):
            function = image.function_at(place)
            if links or function is None or function.address != target:
                found.append(place)
    return found
