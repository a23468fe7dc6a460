"""The updates of a running kernel as its users hold them: apply, remove, list."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import KgdbPatchError, Misuse, Refused
from kgdbpatch.kernel.updating import Updater
from kgdbpatch.results import PatchRow, PatchState, UpdateRow

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.patch import Patch

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
        (row,) = self.apply_set(path, wait=wait, force=force, accept=accept, progress=progress, most=1)
        if not isinstance(row, UpdateRow):
            row.remove()
            raise Misuse(f"{path} is no update but a patch: apply_set takes it")
        return row

    def apply_set(
        self,
        path: Path,
        *,
        wait: float = 10.0,
        force: bool = False,
        accept: Collection[str] = (),
        progress: Callable[[str], None] = lambda _: None,
        most: int = 0,
    ) -> list[UpdateRow | Patch]:
        """Put in all the updates and patches of a set (`export`), or one update, in their order; as `apply`.

        When one is refused, those that were put in before are taken out again. More than ``most`` are not
        taken, unless that is 0.
        """
        from kgdbpatch.kernel.transfer import put_in
        from kgdbpatch.kernel.update_plan import check_decided
        from kgdbpatch.updates.archive import Update, parse_update, read_file
        from kgdbpatch.updates.patch_file import PatchFile
        from kgdbpatch.updates.sets import UPDATE, members_of

        members = members_of(read_file(path), path)
        parsed = [(parse_update if kind == UPDATE else PatchFile.parse)(raw, path) for kind, raw in members]
        if most and len(parsed) > most:
            raise Misuse(f"{path} is a set of {len(parsed)}: apply_set takes them")
        for one in parsed:
            if isinstance(one, Update):
                check_decided(one.manifest, frozenset(accept))
        there = {(row.name, row.sha256) for row in self}
        done: list[UpdateRow | Patch] = []
        try:
            for one, (_, raw) in zip(parsed, members, strict=True):
                if not isinstance(one, Update):
                    done += put_in(self._kernel, one, path, progress)
                    continue
                updater = Updater(self._kernel, wait, force=force, progress=progress)
                done.append(self._kernel._change(partial(updater.apply, one, raw, path)))
                self.pause_us = round(updater.pause * 1e6)
        except KgdbPatchError:
            for row in reversed(done):
                if not isinstance(row, UpdateRow):
                    row.remove()
                elif (row.name, row.sha256) not in there:
                    self.remove(row.name, wait=wait, force=force, progress=progress)
            raise
        return done

    def export(self, left_out: Callable[[str], None] = lambda _: None) -> bytes:
        """Return a set file of all updates and patches that stand, which `apply_set` takes.

        What a patch was made from is known where it was asked for on this host; ``left_out`` is told of each
        other one. Raises `Misuse` where nothing stands.
        """
        from kgdbpatch.kernel.transfer import export

        return export(self._kernel, left_out)

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

    def remove_all(self, *, force: bool = False) -> list[PatchRow]:
        """Take all out, newest first, each as `remove`; return their patches."""
        rows = {row.id: row for row in self._kernel.patch_table() if row.update}
        for name in self.names():
            self.remove(name, force=force)
        return [replace(row, state=PatchState.REMOVED) for row in rows.values()]

    def file(self, name: str) -> bytes:
        """Return the file that an update was applied from, as the guest holds it."""
        return Updater(self._kernel, 0).find(name).file
