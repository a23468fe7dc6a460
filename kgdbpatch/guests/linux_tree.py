"""The bundled Linux guest's source tree, configured and built as its kernel was: to make updates for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path

from kgdbpatch import store
from kgdbpatch.guests import linux_build
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build_tree", "cached_tree"]

_EVERYTHING = ("vmlinux",)


def build_tree(place: Path, progress: Callable[[str], None], targets: Sequence[str] = _EVERYTHING) -> Path:
    """Unpack, configure and build the bundled guest's kernel in ``place``; return that.

    ``targets`` are what make is asked for, where not all is needed (``fs/eventfd.o``). Raises `BuildFailed`.
    """
    _build(place, progress, targets, ())
    return place


def cached_tree(
    progress: Callable[[str], None], targets: Sequence[str], changed: Sequence[Path] = ()
) -> Path:
    """Return a tree in the cache in which ``targets`` were made.

    ``changed`` are files of options that are to be otherwise than the bundled guest's.
    """
    parts: list[str | bytes | Path] = [linux_build.source().name, Path(__file__), Path(linux_build.__file__)]
    parts += [guest_sources("linux") / "config", *changed, " ".join(targets)]

    def make(result: Path, scratch: Path) -> None:
        _build(result / "tree", progress, targets, changed)

    name = f"linux-tree-{store.content_key(parts)}"
    return store.made_once(name, make, progress, linux_build.SCRATCH) / "tree"


def _build(
    place: Path, progress: Callable[[str], None], targets: Sequence[str], changed: Sequence[Path]
) -> None:
    place.mkdir(parents=True, exist_ok=True)
    archive = linux_build.source()
    progress(f"linux: unpacking {archive.name}")
    linux_build.unpack(archive, place, ("*/boot/dts/*.dts", "*/boot/dts/*.dtsi"))
    progress("linux: configuring")
    options = place / "kgdbpatch.config"
    ours = reduce(linux_build.with_options, (part.read_text() for part in changed), "")
    options.write_text(linux_build.with_options((guest_sources("linux") / "config").read_text(), ours))
    linux_build._make(place, ["allnoconfig"], progress, KCONFIG_ALLCONFIG=str(options))
    linux_build._make(place, [f"-j{len(os.sched_getaffinity(0))}", *targets], progress)
