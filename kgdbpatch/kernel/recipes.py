"""The part of the facade that says how guests are booted: recipes found, kept of options, written down."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from kgdbpatch.errors import Misuse, UnknownGuest
from kgdbpatch.guests import Recipe, recipes
from kgdbpatch.guests.known import bundled, is_recipe, user_directory
from kgdbpatch.guests.options import BootOptions, ordered
from kgdbpatch.guests.written import written
from kgdbpatch.vm import runtime

__all__ = ["BootOptions", "as_row", "every", "find", "new", "ordered"]


def as_row(recipe: Recipe) -> dict[str, Any]:
    """Return what is told of a recipe to programs."""
    return {
        "name": recipe.name,
        "path": str(recipe.path),
        "machine": recipe.machine.name,
        "cpu": recipe.machine.cpu,
        "smp": recipe.smp,
        "personality": recipe.personality.name,
        "memory_mib": recipe.memory.memory,
        "announced_mib": recipe.memory.announced,
        "kernel": recipe.kernel,
        "ready": recipe.ready,
        "text": recipe.text,
    }


def every() -> list[dict[str, Any]]:
    """Return all known recipes as rows; of one that cannot be read its name and what is ``wrong`` with it."""
    rows = []
    for name in recipes():
        try:
            rows.append(as_row(Recipe.find(name)))
        except Misuse as error:
            rows.append({"name": name, "wrong": str(error)})
    return rows


def find(name: str) -> Recipe:
    """Return a recipe by its name or file, or the one by which the guest of that name was booted."""
    if is_recipe(name):
        return Recipe.find(name)
    try:
        record = runtime.record(name, dead=True)
    except UnknownGuest:
        return Recipe.find(name)  # says that it is not known
    return Recipe.recorded(record.metadata)


def new(
    name: str, base: str | None, options: BootOptions, output: Path | None = None, *, force: bool = False
) -> Recipe:
    """Write the recipe that ``options`` mean, changing the recipe ``base`` where there is one; return it.

    It goes to the user's recipes, or to the file ``output``. Raises `Misuse` where one is in the way, unless
    by ``force``, and whatever `ordered` does.
    """
    if not runtime.NAME.fullmatch(name) or name.endswith(".toml"):
        raise Misuse(f"'{name}' cannot name a recipe: letters, digits, . _ -, and no .toml")
    if name in bundled() and output is None:
        raise Misuse(f"'{name}' is a bundled recipe; choose another name")
    if output is not None and output.suffix != ".toml":
        raise Misuse(f"{output}: a recipe's file ends in .toml")
    path = (output or user_directory() / f"{name}.toml").absolute()
    if path.exists() and not force:
        raise Misuse(f"{path} is there already (--force writes over it)")
    kept = ordered(base, options, name)
    text = kept.text if kept.path.parent == path.parent else _movable(kept)
    found = Recipe.parse(text, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}") from error
    return found


def _movable(recipe: Recipe) -> str:
    """Return a recipe's text with no file in it that is seen from where it lies."""
    table, directory = tomllib.loads(recipe.text), recipe.path.parent
    if recipe.make:
        raise Misuse(
            f"{recipe.path}: its 'make' belongs to its own directory; copy the file, and change it there"
        )
    boot = table.get("boot", {})
    for holder, key in ((table, "kernel"), (boot, "initrd")):
        if key in holder and not (key == "initrd" and recipe.builder and "/" not in holder[key]):
            holder[key] = str((directory / holder[key]).absolute())
    if str(table.get("machine", "")).endswith(".toml"):
        table["machine"] = str((directory / table["machine"]).absolute())
    if "drives" in boot:
        boot["drives"] = [str(path) for path in recipe.drives()]
    changed = table != tomllib.loads(recipe.text)
    return written(table) if changed else recipe.text
