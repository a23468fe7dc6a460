"""What `Kernel` returns for patches that it put in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused
from kgdbpatch.patch.plan import Plan

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel

__all__ = ["Applied", "Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches put in together, the sites ``refused``, and how long the guest stood still."""

    patches: tuple[Applied, ...]
    refused: tuple[Refused, ...]
    pause_us: int

    def __repr__(self) -> str:
        return f"Batch({len(self.patches)} patches, {len(self.refused)} refused, {self.pause_us} us)"

    @property
    def ids(self) -> dict[int, int]:
        """The patches' ids by site."""
        return {patch.site: patch.id for patch in self.patches}


class Applied:
    """A patch just put in; as a context manager it is taken out at the end."""

    def __init__(self, kernel: Kernel, identity: int, made: Plan, pause: float) -> None:
        self._kernel = kernel
        self.entry = made.entry
        self.id, self.site, self.saved = identity, made.site, made.saved
        self.springboard, self.body, self.body_words = made.springboard, made.body, made.body_words
        self.forced, self.warnings = made.forced, made.warnings
        self.guarded = made.guarded
        self.springboard_words = len(made.springboard_code) // 4
        self.pause_us = round(pause * 1e6)

    def __repr__(self) -> str:
        return f"Applied(patch {self.id} at 0x{self.site:08x} of {self._kernel.name!r}, by {self.entry})"

    @property
    def hits(self) -> int | None:
        """How often the patch ran, read from the running guest."""
        return next((patch.hits for patch in self._kernel.patches if patch.id == self.id), None)

    def remove(self) -> None:
        """Take the patch out."""
        self._kernel.remove(self.id)

    def __enter__(self) -> Applied:
        return self

    def __exit__(self, *_: object) -> None:
        mine = (self.id, self.site)
        if any((it.id, it.site) == mine and it.state != "retired" for it in self._kernel.patches):
            self.remove()
