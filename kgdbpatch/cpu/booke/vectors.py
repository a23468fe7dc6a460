"""Unused words of a kernel's text, for a family whose exceptions enter anywhere (IVORs)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kgdbpatch.image import Image
from kgdbpatch.personality.base import Personality

__all__ = ["free_words"]

_PAGE = 4096


def free_words(
    personality: Personality, image: Image, size: int, words: Callable[[int, int], npt.NDArray[np.uint32]]
) -> int | None:
    """Return the address of ``size`` unused bytes behind a section of code, in its last page; or None.

    ``words`` are the running kernel's.
    """
    given_up = personality.discarded(image)
    for section in image.code_sections():
        if any(window.start <= section.end <= window.end for window in given_up):
            continue
        start = -(-section.end // 16) * 16
        end = -(-section.end // _PAGE) * _PAGE
        end = min([end, *(other.address for other in image.sections if start <= other.address < end)])
        if end - size < start or personality.to_physical(image, end - size) is None:
            continue
        if not words(end - size, size // 4).any():
            return end - size
    return None
