"""CPU families: one package each, found by what a CPU says of itself, never by its name.

A family is one package and one registration: a line in `_BUNDLED` here, or in another package's
``pyproject.toml`` an entry point ``NAME = "package:Class"`` of the group ``kgdbpatch.cpus``. The class is a
`kgdbpatch.component.ports.Family`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, cast

from kgdbpatch.cpu.pvr import described
from kgdbpatch.errors import Misuse, Refused

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu, Family
    from kgdbpatch.vm.registers import Layout

__all__ = ["families", "find", "of_model"]

_GROUP = "kgdbpatch.cpus"
_BUNDLED = {
    "ppc6xx": "kgdbpatch.cpu.ppc6xx:Ppc6xx",
    "e500": "kgdbpatch.cpu.booke:E500",
    "440": "kgdbpatch.cpu.booke:Ppc440",
    "405": "kgdbpatch.cpu.ppc405:Ppc405",
}


def families() -> Iterator[tuple[str, Family]]:
    """Yield names and families: the bundled ones, then those of installed packages.

    Raises `Misuse` naming an installed one that cannot be imported.
    """
    for name, place in _BUNDLED.items():
        module, _, attribute = place.partition(":")
        yield name, cast("Family", getattr(import_module(module), attribute))
    from importlib.metadata import entry_points  # on use: it is slow, and the bundled ones come first

    for point in entry_points(group=_GROUP):
        try:
            yield point.name, point.load()
        except Exception as error:  # another's code
            raise Misuse(
                f"the installed CPU family '{point.name}' ({point.value}) is broken: {error}"
            ) from error


def find(layout: Layout) -> Cpu:
    """Return what serves a CPU with these registers and this PVR; raise `Refused` (rule ``cpu``) for none."""
    names = []
    for name, family in families():
        found = family.of(layout)
        if found is not None:
            return found
        names.append(name)
    raise Refused(
        "cpu", f"this CPU ({described(layout.pvr)}) is of no family that is known here: {', '.join(names)}"
    )


def of_model(model: str) -> Cpu:
    """Return the family of a kernel that does not run, by the model that its file names ("": none).

    A file for a model of no family is judged as one that names none, by the first family's rules.
    """
    fallback: Cpu | None = None
    for _, family in families():
        found = family.of_model(model)
        if found is not None:
            return found
        fallback = fallback or family.of_model("")
    assert fallback is not None
    return fallback
