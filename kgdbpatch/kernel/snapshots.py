"""Snapshots of a guest's whole state: saved, listed, gone back to, deleted."""

from __future__ import annotations

import re

from kgdbpatch.errors import Misuse
from kgdbpatch.image.near import close_names
from kgdbpatch.kernel.looks import LookedAt
from kgdbpatch.results import PatchState, SnapshotRow

__all__ = ["Restorable"]

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")  # QEMU takes digits alone for a snapshot's number
_KEY = "snapshots"  # in a guest's record: tag ─► ids of the patches that stood

Rows = list[SnapshotRow]


class Restorable(LookedAt):
    """A guest that can be put back to what it was; its patches, which are in its memory, go with it."""

    def snapshot(self, tag: str) -> None:
        """Save the guest's whole state under ``tag``, in place of an earlier one of that name.

        Raises `Misuse` for a tag that QEMU could take amiss, and where a guest cannot be put back.
        """
        if not _TAG.fullmatch(tag):
            raise Misuse(f"'{tag}' cannot name a snapshot: letters, digits, . _ -, the first a letter")
        self._check_restorable()
        self.assure_alive()
        with self._exclusive():
            if self.unpatchable is None:
                self._component.snapshot(self.header, tag)
            else:
                with self._awake().stopped():
                    self._qemu.savevm(tag)
            standing = [one.id for one in self.records() if one.state is PatchState.ACTIVE]
            self._qemu.note(**{_KEY: {**self._noted(), tag: standing}})

    def restore(self, tag: str, *, stay_paused: bool = False) -> None:
        """Put the guest back to the state saved under ``tag`` and let it go on from there; it may be dead.

        With ``stay_paused`` one that is paused stays so. Raises `Misuse` for an unknown tag.
        """
        self._check_restorable()
        self._assure_answers()
        self._check_known(tag)
        with self._qemu.exclusive(self._wait, settles=True):
            paused = stay_paused and not self._qemu.runs() and not self._qemu.left_by_debugger()
            self._component.restore(self._personality.memory.arena_at, tag)
            if not paused:
                self._qemu.qmp("cont")
        self._paused = paused
        self.__dict__.pop("_own_checker", None)
        self.__dict__.pop("console", None)

    def snapshots(self) -> Rows:
        """Return the saved states, oldest first; the guest is not stopped."""
        known = self._noted()
        found = []
        for one in self._qemu.snapshots():
            ids = known.get(str(one["name"]))
            date = one["date-sec"] + one.get("date-nsec", 0) / 1e9
            uptime = one.get("vm-clock-sec", 0) + one.get("vm-clock-nsec", 0) / 1e9
            patches = None if ids is None else tuple(ids)
            found.append(SnapshotRow(str(one["name"]), date, int(one["vm-state-size"]), uptime, patches))
        return sorted(found, key=lambda row: row.date)

    def delete_snapshot(self, tag: str) -> None:
        """Delete the state saved under ``tag``; raise `Misuse` for an unknown one."""
        self._assure_answers()
        self._check_known(tag)
        with self._qemu.exclusive(self._wait):
            self._qemu.delvm(tag)
            self._qemu.note(**{_KEY: {name: ids for name, ids in self._noted().items() if name != tag}})

    def _noted(self) -> dict[str, list[int]]:
        noted = self._qemu.metadata.get(_KEY)
        return dict(noted) if isinstance(noted, dict) else {}

    def _check_known(self, tag: str) -> None:
        names = [str(one["name"]) for one in self._qemu.snapshots()]
        if tag in names:
            return
        near = close_names(tag, names)
        known = f"; there are {', '.join(names)}" if names else "; it has none"
        hint = f"; did you mean {' or '.join(near)}?" if near else known
        raise Misuse(f"guest '{self.name}' has no snapshot '{tag}'{hint}")

    def _check_restorable(self) -> None:
        if self._qemu.foreign:
            self._qemu.snapshots()  # says why there are none
        if not self._cpu.restorable:
            raise Misuse(f"no snapshots: QEMU does not bring the saved state of a {self._cpu.name} back")
