"""Operating systems as guests' kernels: one module or package each, detected by what an image holds.

A personality is one class and one registration: a line in `_BUNDLED` here, or in another package's
``pyproject.toml`` an entry point ``NAME = "package:Class"`` of the group ``kgdbpatch.personalities``. The
class is derived from `kgdbpatch.personality.base.Personality`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, cast

from kgdbpatch.errors import Misuse
from kgdbpatch.personality.base import ArenaPlan, LogLine, MemoryPlan, Personality, Window

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from kgdbpatch.image import Image

__all__ = ["ArenaPlan", "LogLine", "MemoryPlan", "Personality", "Window", "detect", "personality"]

_GROUP = "kgdbpatch.personalities"
_BUNDLED = {  # in the order in which they are asked whether an image is theirs
    "darwin": "kgdbpatch.personality.darwin:Darwin",
    "linux": "kgdbpatch.personality.linux:Linux",
    "bare": "kgdbpatch.personality.bare:Bare",
}


def personality(name: str, memory: MemoryPlan | None = None, **lines: str) -> Personality:
    """Return the operating system called ``name``; raise `Misuse` with the known ones.

    ``lines`` are regexes of a recipe, for those that are told what they print (`Personality.told`).

    >>> personality("linux").kernel_format
    'elf'
    """
    found = _called(name)
    wrong = sorted(lines.keys() - found.told)
    if wrong:
        raise Misuse(f"{', '.join(wrong)}: what '{name}' prints is known; leave it out")
    return found(memory, **lines)


def detect(image: Image) -> Personality:
    """Return the operating system that a kernel file looks like, by what each says of it."""
    for kind in _classes():
        if kind.recognises(image):
            return kind()
    return _called("unknown")()


def _called(name: str) -> type[Personality]:
    if name == "unknown":  # what nobody recognises; no recipe asks for it
        return _imported("kgdbpatch.personality.unknown:Unknown")
    if name in _BUNDLED:
        return _imported(_BUNDLED[name])
    installed = {point.name: point for point in _installed()}
    if name not in installed:
        known = sorted({*_BUNDLED, *installed})
        raise Misuse(f"no personality '{name}'; there are {', '.join(known)}")
    return _loaded(installed[name])


def _classes() -> Iterator[type[Personality]]:
    """Yield all classes: the bundled ones, then those of installed packages."""
    yield from map(_imported, _BUNDLED.values())
    yield from map(_loaded, _installed())


def _imported(place: str) -> type[Personality]:
    module, _, attribute = place.partition(":")
    return cast("type[Personality]", getattr(import_module(module), attribute))


def _installed() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # on use: it is slow, and the bundled ones come first

    return list(entry_points(group=_GROUP))


def _loaded(point: EntryPoint) -> type[Personality]:
    """Return an installed package's class; raise `Misuse` naming one that is none."""
    try:
        found = point.load()
    except Exception as error:  # another's code
        raise Misuse(
            f"the installed personality '{point.name}' ({point.value}) is broken: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Personality)):
        raise Misuse(f"the installed personality '{point.name}' ({point.value}) is no Personality")
    return found
