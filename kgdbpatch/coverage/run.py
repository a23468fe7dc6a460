"""What was run of a kernel's basic blocks, at one moment; kept in a file, compared with another run."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import BadPatch, Misuse

__all__ = ["OWN", "Run", "load", "save"]

OWN = ("patched", "not chosen", "no room")  # reasons that are no rules of the kernel's code
_FORMAT = 1
_ARRAYS = ("start", "end", "site", "reason", "hits")


@dataclass(frozen=True, slots=True)
class Run:
    """Blocks by their ``start``, ascending, and ``end`` (the last instruction); what is known of each.

    ``site`` is where in a block it is watched, ``reason`` the number in ``reasons`` of why it is not, 0 where
    it is; ``hits`` how often it was run, which is 1 at most unless ``exact``. ``image`` is the digest of the
    kernel's file, ``modules`` are those that are loaded: nothing of theirs is watched.
    """

    start: npt.NDArray[np.uint32]
    end: npt.NDArray[np.uint32]
    site: npt.NDArray[np.uint32]
    reason: npt.NDArray[np.uint8]
    hits: npt.NDArray[np.uint32]
    reasons: tuple[str, ...]
    exact: bool
    image: str
    modules: tuple[str, ...] = ()

    @property
    def watched(self) -> npt.NDArray[np.bool_]:
        """Which blocks are watched."""
        found: npt.NDArray[np.bool_] = self.reason == 0
        return found

    @property
    def ran(self) -> npt.NDArray[np.bool_]:
        """Which blocks were run."""
        found: npt.NDArray[np.bool_] = self.watched & (self.hits > 0)
        return found

    def merged(self, other: Run) -> Run:
        """Return what ran in either of two runs of one kernel; a block of which one knows is known."""
        if self.image != other.image or not np.array_equal(self.start, other.start):
            raise Misuse("the two are of different kernels")
        hits = self.hits + other.hits if self.exact else np.maximum(self.hits, other.hits)
        reason = np.where(self.watched | other.watched, 0, self.reason).astype(np.uint8)
        modules = tuple(sorted({*self.modules, *other.modules}))
        return replace(self, hits=hits, reason=reason, modules=modules)

    def unseen(self) -> dict[str, int]:
        """Return how many blocks are not watched, by the rule that forbids it."""
        numbers, counts = np.unique(self.reason[self.reason > 0], return_counts=True)
        pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
        return {self.reasons[number]: count for number, count in sorted(pairs, key=lambda one: -one[1])}


def save(path: Path, run: Run) -> None:
    """Write a run to a file; raise `BadPatch` where that cannot be."""
    about = {"format": _FORMAT, "reasons": run.reasons, "exact": run.exact, "image": run.image}
    arrays = {name: getattr(run, name) for name in _ARRAYS}
    about["modules"] = run.modules
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    except OSError as error:
        raise BadPatch(f"{path}: {error.strerror}") from error


def load(path: Path) -> Run:
    """Read what `save` has written; raise `BadPatch` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as found:
            about: dict[str, Any] = json.loads(str(found["about"]))
            arrays = {name: found[name] for name in _ARRAYS}
        if about["format"] != _FORMAT or len({len(one) for one in arrays.values()}) != 1:
            raise BadPatch(f"{path} is no coverage that this kgdbpatch has saved")
        return Run(
            **arrays,
            reasons=tuple(about["reasons"]),
            exact=bool(about["exact"]),
            image=str(about["image"]),
            modules=tuple(about["modules"]),
        )
    except OSError as error:
        raise BadPatch(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise BadPatch(f"{path} is no coverage that this kgdbpatch has saved") from error
