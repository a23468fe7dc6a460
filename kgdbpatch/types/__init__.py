"""C types of a kernel, from DWARF or BTF: definitions, headers that compile, prototypes."""

from __future__ import annotations

from kgdbpatch.types.kernel_types import KernelTypes
from kgdbpatch.types.signature import same_signature

__all__ = ["KernelTypes", "same_signature"]
