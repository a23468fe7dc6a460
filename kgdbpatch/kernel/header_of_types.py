"""The header ``kgdbpatch/types.h`` of a payload: of the kernel's types and functions, those that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.types import KernelTypes
from kgdbpatch.types.source_names import source_names

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["types_header"]


def types_header(image: Image, text: str) -> str:
    """Return the header for a preprocessed source; raise `BadImage` where nothing tells of the types."""
    types = KernelTypes.of(image)
    index, named = types.index, source_names(text)
    tags = [tag for tag in named.tags if tag.split()[1] in index[tag.split()[0]]]
    plain = [f"typedef {word}" for word in named.words if word in index["typedef"]]
    functions = [name for name in named.called if name in index["function"]]
    return types.header([*tags, *plain], functions)
