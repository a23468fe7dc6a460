"""Unused words of a kernel's text, for a family whose exceptions enter anywhere (IVORs)."""

from __future__ import annotations

from kgdbpatch.image import Image
from kgdbpatch.personality.base import Personality

__all__ = ["gates"]

_PAGE = 4096


def gates(personality: Personality, image: Image, size: int) -> list[int]:
    """Return the addresses of ``size`` unused bytes behind sections of code, in their last pages."""
    found, given_up = list[int](), personality.discarded(image)
    for section in image.code_sections():
        if any(window.start <= section.end <= window.end for window in given_up):
            continue
        start = -(-section.end // 16) * 16
        end = -(-section.end // _PAGE) * _PAGE
        end = min([end, *(other.address for other in image.sections if start <= other.address < end)])
        if end - size >= start and personality.to_physical(image, end - size) is not None:
            found.append(end - size)
    return found
