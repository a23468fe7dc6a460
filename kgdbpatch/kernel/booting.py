"""Start a guest, and wait until it is up, or tell why it does not come up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict

from kgdbpatch.errors import TargetLost, TargetTimeout
from kgdbpatch.guests.recipe import STARTING, Recipe
from kgdbpatch.image import Image
from kgdbpatch.vm.qemu import Qemu

__all__ = ["start", "wait_until_ready"]

_NEXT = 0.3  # seconds that a Linux which cannot start its first process takes to say what it does next


def start(
    recipe: Recipe, image: Image, name: str, icount: str | None, metadata: Mapping[str, object]
) -> Qemu:
    """Start a guest by its recipe with the kernel ``image``; what attaching to it takes is kept beside it."""
    return Qemu.start(
        name,
        recipe.machine,
        recipe.memory.memory,
        lambda directory: recipe.qemu_args(image.path, directory),
        metadata={
            **metadata,
            "profile": recipe.name,
            "recipe": recipe.text,
            "recipe_path": str(recipe.path),
            "kernel": str(image.path),
            "sha256": image.sha256,
            "icount": icount,
            "vitals": asdict(recipe.personality.vitals(image)),
        },
        icount=icount,
    )


def wait_until_ready(qemu: Qemu, recipe: Recipe) -> None:
    """Return when the console says what the recipe waits for, be it in a line that has not ended.

    Raises `TargetLost` when the kernel panics instead, `TargetTimeout` with its last words.
    """
    ready, deadline = re.compile(recipe.ready), recipe.boot_deadline
    lines = qemu.console.growing(0, deadline)
    for line, complete in lines:
        _assure_no_death(recipe, line, complete)
        if ready.search(line):
            break
    else:
        raise _late(qemu, recipe)
    if recipe.ready == STARTING:
        _assure_started(qemu, recipe)


def _assure_no_death(recipe: Recipe, line: str, complete: bool) -> None:
    kind = recipe.personality
    if complete and re.search(f"{kind.panic}|{kind.oops}", line):
        raise TargetLost(f"the guest panicked while it booted: {line.strip()}")


def _assure_started(qemu: Qemu, recipe: Recipe) -> None:
    """Hear what a Linux says next that tries to start its first process: it may try another one, or panic."""
    tried = True
    while tried:
        tried, since = False, qemu.console.position()
        for line in qemu.console.lines():
            _assure_no_death(recipe, line, complete=True)
        for line, complete in qemu.console.growing(since, _NEXT):
            _assure_no_death(recipe, line, complete)
            tried = complete and re.search(STARTING, line) is not None
            if complete:
                break


def _late(qemu: Qemu, recipe: Recipe) -> TargetTimeout:
    error = qemu.console.timeout(recipe.ready, recipe.boot_deadline)
    resets = len(qemu.events.update().resets)
    if resets:
        error.add_note(f"it was reset {resets} times meanwhile")
    error.add_note("--ready says what to wait for, --timeout how long")
    return error
