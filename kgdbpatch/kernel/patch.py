"""Patches as users hold them: one handle each, and what a batch did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused
from kgdbpatch.results import Holder, PatchRow, PatchState

if TYPE_CHECKING:
    from kgdbpatch.kernel import Kernel
    from kgdbpatch.kernel.variables import PatchVariables
    from kgdbpatch.patch.plan import Plan

__all__ = ["Batch", "Patch"]


class Patch:
    """A patch of a running kernel; as a context manager it is taken out at the end.

    One that `Kernel.patch` returns knows its ``plan`` and reads the table whenever it is asked; one of
    `Kernel.patches` has no plan and tells what stood there then; `refresh` reads it again.

    >>> with kernel.patch("udp_sendmsg", count=True) as patch:
    ...     print(patch.entry, patch.hits)
    """

    def __init__(
        self,
        kernel: Kernel,
        patch_id: int,
        site: int,
        entry: str,
        forced: tuple[str, ...],
        *,
        plan: Plan | None = None,
        row: PatchRow | None = None,
        pause: float = 0.0,
    ) -> None:
        self._kernel, self._row, self.plan = kernel, row, plan
        self.id, self.site, self.entry, self.forced = patch_id, site, entry, forced
        self.pause_us = round(pause * 1e6)  # how long the guest stood still to have it put in

    @classmethod
    def planned(cls, kernel: Kernel, patch_id: int, plan: Plan, pause: float) -> Patch:
        """Return the handle of a patch just put in; the guest stood still for ``pause`` seconds."""
        return cls(kernel, patch_id, plan.site, plan.entry, plan.forced, plan=plan, pause=pause)

    @classmethod
    def listed(cls, kernel: Kernel, row: PatchRow) -> Patch:
        """Return the handle of an entry as it was read."""
        return cls(kernel, row.id, row.site, row.entry, row.forced, row=row)

    def __repr__(self) -> str:
        state = f", {self._row.state}" if self._row else ""
        return f"Patch({self.id} at 0x{self.site:08x} of {self._kernel.name!r}, by {self.entry}{state})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Patch):
            return NotImplemented
        mine, theirs = ((one._kernel.name, one.id, one.site, one._row) for one in (self, other))
        return mine == theirs

    def __hash__(self) -> int:
        return hash((self._kernel.name, self.id, self.site))

    def _now(self) -> PatchRow:
        """Return the entry as it stands in the table now; where it is there no more, as removed."""
        mine = (row for row in self._kernel.patch_table() if (row.id, row.site) == (self.id, self.site))
        return next(mine, PatchRow(self.id, self.site, PatchState.REMOVED, None, self.entry, self.forced))

    def _entry(self) -> PatchRow:
        return self._row or self._now()

    def refresh(self) -> Patch:
        """Return the same patch as it stands in the table now; `Misuse` when it is there no more."""
        return self._kernel.find_patch(self.id)

    @property
    def state(self) -> PatchState:
        """How it stands; ``removed`` when the table has it no more."""
        return self._entry().state

    @property
    def hits(self) -> int | None:
        """How often it ran; None when it does not count."""
        return self._entry().hits

    @property
    def variables(self) -> PatchVariables:
        """The variables of its payload, of C, by name: read and written while the guest runs."""
        from kgdbpatch.kernel.variables import PatchVariables

        return PatchVariables(self._kernel, self.id)

    @property
    def exits(self) -> int | None:
        """How many of the calls that it counts have returned; None when it is not at a function's exits."""
        return self._entry().exits

    def calls(self) -> PatchRow:
        """Return its entry with ``inside`` and ``unreturned``; the guest may be stopped for that."""
        rows = self._kernel.patch_table(calls=True)
        return next((row for row in rows if row.id == self.id), self._now())

    @property
    def skipped(self) -> int | None:
        """How often a thread that was inside it passed its site; None when it is not guarded."""
        return self._entry().skipped

    @property
    def held_by(self) -> tuple[Holder, ...]:
        """What keeps a retired one's memory in use."""
        return self._entry().held_by

    @property
    def _made(self) -> Plan:
        assert self.plan is not None, "only the handle that Kernel.patch returns knows how a patch was made"
        return self.plan

    @property
    def saved(self) -> tuple[str, ...]:
        """The registers that its body saves."""
        return self._made.saved

    @property
    def springboard(self) -> int | None:
        """The address of its springboard, or None without one."""
        return self._made.springboard

    @property
    def body(self) -> int:
        """The address of its body."""
        return self._made.body

    @property
    def body_words(self) -> int:
        """The words of its body."""
        return self._made.body_words

    @property
    def springboard_words(self) -> int:
        """The words of its springboard."""
        return len(self._made.springboard_code) // 4

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of it."""
        return self._made.warnings

    @property
    def guarded(self) -> bool:
        """Whether a thread inside the payload passes the site without running it again."""
        return self._made.guarded

    def remove(self) -> None:
        """Take it out."""
        self._kernel.remove(self.id)

    def __enter__(self) -> Patch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._now().state not in (PatchState.RETIRED, PatchState.REMOVED):
            self.remove()


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches put in together, the sites ``refused``, and how long the guest stood still."""

    patches: tuple[Patch, ...]
    refused: tuple[Refused, ...]
    pause_us: int

    def __repr__(self) -> str:
        return f"Batch({len(self.patches)} patches, {len(self.refused)} refused, {self.pause_us} us)"

    @property
    def ids(self) -> dict[int, int]:
        """The patches' ids by site."""
        return {patch.site: patch.id for patch in self.patches}
