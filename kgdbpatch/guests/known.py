"""Which recipes there are: the bundled ones, the user's own, and those of installed packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["bundled", "is_recipe", "path_of", "recipes", "user_directory"]

_HERE = Path(__file__).parent
_GROUP = "kgdbpatch.recipes"  # entry points: NAME = "package:function", which returns the TOML file's path


def user_directory() -> Path:
    """Return where the user's own recipes are: ``KGDBPATCH_RECIPES``, else in the XDG configuration."""
    chosen = os.environ.get("KGDBPATCH_RECIPES")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config").absolute() / "kgdbpatch" / "recipes"


def bundled() -> dict[str, Path]:
    """Return name ─► file of the recipes that come with this package."""
    return {path.stem: path for path in sorted(_HERE.glob("*.toml"))}


def recipes() -> tuple[str, ...]:
    """Return the names of the known recipes: the bundled ones, the user's, those of installed packages."""
    return tuple(_known())


def is_recipe(name: str) -> bool:
    """Tell whether a word means a recipe: a known one's name, or a file's."""
    return name.endswith(".toml") or name in _known()


def path_of(name: str) -> Path:
    """Return the file of a recipe by its name; raise `Misuse` with the known ones."""
    known = _known()
    if name not in known:
        near = get_close_matches(name, known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise Misuse(f"no recipe '{name}'; there are {', '.join(sorted(known))}, or give a FILE.toml{hint}")
    return known[name]()


def _known() -> dict[str, Callable[[], Path]]:
    own = {path.stem: path for path in sorted(user_directory().glob("*.toml"))}
    found: dict[str, Callable[[], Path]] = {
        name: partial(Path, path) for name, path in (bundled() | own | bundled()).items()
    }
    from importlib.metadata import entry_points  # on use: a running guest's record has its recipe

    for point in entry_points(group=_GROUP):
        found.setdefault(point.name, partial(_installed, point))
    return found


def _installed(point: EntryPoint) -> Path:
    """Return the recipe that an entry point tells: ``NAME = "package:function"``, which returns its path."""
    try:
        return Path(point.load()())
    except Exception as error:  # another's code
        raise Misuse(f"the installed recipe '{point.name}' ({point.value}) is broken: {error}") from error
