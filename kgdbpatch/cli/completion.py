"""What the shell offers at Tab: names of guests, profiles, and names of a kernel's symbols."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from kgdbpatch.errors import KgdbPatchError

__all__ = ["functions", "guests", "machines", "profiles", "recipes_and_guests", "snapshots", "symbols"]


def _beginning(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun) and name.isprintable()]


def profiles(incomplete: str) -> list[str]:
    """Return what can be booted."""
    from kgdbpatch.kernel import catalog

    return _beginning(catalog.profiles(), incomplete)


def machines(incomplete: str) -> list[str]:
    """Return the boards of which there is a description."""
    from kgdbpatch.vm.machine import machines as known

    return _beginning(known(), incomplete)


def recipes_and_guests(incomplete: str) -> list[str]:
    """Return what has a recipe."""
    return [*profiles(incomplete), *guests(incomplete)]


def guests(incomplete: str) -> list[str]:
    """Return the names of the guests, of dead ones too."""
    from kgdbpatch.kernel import catalog

    try:
        return _beginning(catalog.names(), incomplete)
    except KgdbPatchError:
        return []


def functions(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the functions of the kernel that the command line names, as C spells them."""
    from kgdbpatch.kernel import catalog

    kernel = ctx.params.get("image") or ctx.params.get("name")
    if kernel is None:
        return []
    try:
        image = catalog.open_image(str(kernel))
        names = {function.name for function in image.all_functions()}
    except (KgdbPatchError, OSError):
        return []
    prefix = image.symbol_prefix
    if not incomplete.startswith(prefix):
        names = {name.removeprefix(prefix) for name in names}
    return sorted(_beginning(names, incomplete))


def snapshots(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the saved states of the guest that the command line names."""
    from kgdbpatch.vm.qemu import Qemu

    try:
        found = Qemu.attach(str(ctx.params.get("name"))).snapshots()
    except KgdbPatchError:
        return []
    return _beginning((str(one["name"]) for one in found), incomplete)


def symbols(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of all that the kernel has which the command line names, as C spells them."""
    from kgdbpatch.kernel import catalog

    kernel = ctx.params.get("image") or ctx.params.get("name")
    try:
        image = catalog.open_image(str(kernel)) if kernel is not None else None
    except (KgdbPatchError, OSError):
        image = None
    if image is None:
        return []
    prefix, names = image.symbol_prefix, set(image.symbols.names.all())
    if not incomplete.startswith(prefix):
        names = {name.removeprefix(prefix) for name in names}
    return sorted(_beginning(names, incomplete))
