"""Kernel files: Mach-O and ELF, their sections, symbols and functions. Nothing here decodes instructions."""

from __future__ import annotations

from kgdbpatch.image.image import Image
from kgdbpatch.image.model import Function, Section, Segment, Symbol
from kgdbpatch.image.near import close_names

__all__ = ["Function", "Image", "Section", "Segment", "Symbol", "close_names"]
