"""The updates of a running kernel as its users hold them: apply, remove, list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused
from kgdbpatch.kernel.updating import Updater
from kgdbpatch.results import PatchState, UpdateRow

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Updates"]


class Updates:
    """The updates in one guest, oldest first.

    >>> row = kernel.updates.apply(Path("fix.kup"), wait=5)
    >>> [update.name for update in kernel.updates]
    ['fix']
    >>> kernel.updates.remove("fix")
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.pause_us = 0  # how long the guest stood still for the last change, microseconds

    def __iter__(self) -> Iterator[UpdateRow]:
        """Yield those that stand, and those whose apply was cut off; the guest is not stopped."""
        rows = (one.row for one in Updater(self._kernel, 0).standing())
        return (row for row in rows if row.state is not PatchState.RETIRED)

    def names(self) -> list[str]:
        """Return the names of those that stand, newest first."""
        return [row.name for row in self if row.state is PatchState.ACTIVE][::-1]

    def check_whole(self, ids: Collection[int]) -> None:
        """Raise `Refused` (rule ``update``) where some of an update's patches would go and others not."""
        for row in self if ids else ():
            some = set(row.ids) & set(ids)
            if row.state is PatchState.ACTIVE and some:
                raise Refused(
                    "update",
                    f"patch {min(some)} is part of the update '{row.name}', which goes as a whole: "
                    f"'kgdbpatch update remove {self._kernel.name} {row.name}'",
                )

    def apply(
        self,
        path: Path,
        *,
        wait: float = 10.0,
        force: bool = False,
        accept: Collection[str] = (),
        progress: Callable[[str], None] = lambda _: None,
    ) -> UpdateRow:
        """Put an update file (.kup) in: all or nothing, in one stop at a safe moment.

        That is one in which no CPU and no thread is inside what is replaced; it is waited for ``wait``
        seconds. ``force`` does not wait: who is inside goes on in the old code. ``accept`` are the ids of
        decisions that are yours, or ``all``. The same file again changes nothing; another one of the same
        name takes its place. Raises `BadPatch`, `Misuse`, `Refused` by rule: ``undecided``, ``expected``
        (another kernel), ``veto`` (of ``pre_apply`` or ``transform``), ``safe moment``, and those of a patch.
        """
        from kgdbpatch.kernel.update_plan import check_decided
        from kgdbpatch.updates.archive import parse_update, read_file

        raw = read_file(path)
        update = parse_update(raw, path)
        check_decided(update.manifest, frozenset(accept))
        updater = Updater(self._kernel, wait, force=force, progress=progress)
        row = self._kernel._change(lambda header, basis: updater.apply(update, raw, path, header, basis))
        self.pause_us = round(updater.pause * 1e6)
        return row

    def remove(
        self,
        name: str,
        *,
        wait: float = 10.0,
        force: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> UpdateRow:
        """Take an update out at a safe moment, in which nobody is inside its code; as `apply`.

        Raises `Misuse` for a name that no update has, `Refused`: ``veto``, ``safe moment``, ``expected``.
        """
        updater = Updater(self._kernel, wait, force=force, progress=progress)
        row = self._kernel._change(lambda header, _basis: updater.remove(name, header))
        self.pause_us = round(updater.pause * 1e6)
        return row

    def file(self, name: str) -> bytes:
        """Return the file that an update was applied from, as the guest holds it."""
        return Updater(self._kernel, 0).find(name).file
