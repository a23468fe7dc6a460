"""What a patch keeps of its payload's names: variables with their types, functions, the patches it uses."""

from __future__ import annotations

from kgdbpatch.variables.note import Note, Stage, Symbol, Variable, framed, pack, unframed, unpack
from kgdbpatch.variables.shape import Shape
from kgdbpatch.variables.values import Value

__all__ = ["Note", "Shape", "Stage", "Symbol", "Value", "Variable", "framed", "pack", "unframed", "unpack"]
