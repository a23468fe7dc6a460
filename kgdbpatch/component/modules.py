"""The modules that patches are in, as the arena keeps them: each as it was loaded, under a number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.errors import Outdated, Refused
from kgdbpatch.personality.base import ArenaPlan, ModuleId
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Personality
    from kgdbpatch.patch.plan import Plan

__all__ = ["Known", "Loaded", "ModuleSites", "known"]

Loaded = Callable[[], Collection[ModuleId]]


@dataclass(frozen=True, slots=True)
class Known:
    """The modules of some records: their names by number, and which of them are loaded no more."""

    names: Mapping[int, str] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()


def _at(plan: ArenaPlan, number: int) -> int:
    return plan.physical + layout.MODULES_OFFSET + number * layout.MODULE.itemsize


def _entry(ram: Readable, plan: ArenaPlan, number: int) -> ModuleId:
    raw = np.frombuffer(ram.read(_at(plan, number), layout.MODULE.itemsize), layout.MODULE)[0]
    name = bytes(raw["name"]).decode(errors="replace")
    return name, int(raw["start"]), int(raw["end"]), int(raw["frames"])


def known(ram: Readable, plan: ArenaPlan, records: npt.NDArray[np.void], loaded: Loaded) -> Known:
    """Return the modules of table entries; ``loaded`` tells which ones the kernel has now."""
    used = _numbers(records)
    if not used:
        return Known()
    entries, present = {number: _entry(ram, plan, number) for number in used}, loaded()
    gone = frozenset(number for number, entry in entries.items() if entry not in present)
    return Known({number: entry[0] for number, entry in entries.items()}, gone)


def _numbers(records: npt.NDArray[np.void]) -> list[int]:
    numbers = records["module"]
    return sorted(set(numbers.tolist()) - {0}) if numbers.any() else []


class ModuleSites:
    """The modules that the sites of plans are in, as the kernel has them now.

    ``records`` are the table's entries in use.
    """

    def __init__(
        self,
        ram: Readable,
        plan: ArenaPlan,
        records: npt.NDArray[np.void],
        plans: Iterable[Plan],
        system: Personality,
    ) -> None:
        self._loaded = system.loaded
        self._modules = _inside([one.site for one in plans], system.loaded())
        taken = {_entry(ram, plan, number): number for number in _numbers(records)} if self._modules else {}
        free = (number for number in range(1, layout.MODULES + 1) if number not in taken.values())
        self._numbers: dict[ModuleId, int] = {}
        self.entries: list[tuple[int, bytes]] = []  # what to write, and where
        for module in dict.fromkeys(self._modules.values()):
            number = taken.get(module) or next(free, 0)
            if not number:
                raise Refused("memory", f"patches of {layout.MODULES} modules are in; remove some")
            self._numbers[module] = number
            self.entries.append((_at(plan, number), _packed(module)))

    def number(self, site: int) -> int:
        """Return the number of the module that a site is in, 0 for the kernel itself."""
        module = self._modules.get(site)
        return 0 if module is None else self._numbers[module]

    def check(self) -> None:
        """Raise `Outdated` when a module that a site is in was unloaded; the guest is stopped."""
        gone = self._numbers.keys() - self._loaded() if self._numbers else set[ModuleId]()
        for name, *_ in gone:
            raise Outdated(f"the module {name} was unloaded; what was planned for it is outdated")


def _inside(sites: Iterable[int], loaded: Collection[ModuleId]) -> dict[int, ModuleId]:
    """Return the modules that sites are in, by site; those of the kernel itself are left out."""
    modules = sorted(loaded, key=lambda module: module[1])
    starts, found = [start for _, start, _, _ in modules], dict[int, ModuleId]()
    for site in sites if modules else ():
        index = bisect_right(starts, site) - 1
        if index >= 0 and site < modules[index][2]:
            found[site] = modules[index]
    return found


def _packed(module: ModuleId) -> bytes:
    name, start, end, frames = module
    return np.array([(name.encode(), start, end, frames, 0)], layout.MODULE).tobytes()
