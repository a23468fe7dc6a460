"""Judge sites in modules: each module is a program of its own, which calls and is called by code unknown.

So what a module's functions may be given, and what of theirs is looked at later, is all that the calling
convention allows; and nothing that is known of the kernel's own functions changes when modules come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch import cpu
from kgdbpatch.analysis.caller_frame import CallerFrame, Code
from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.errors import Refused
from kgdbpatch.image import Function, Image
from kgdbpatch.isa.decode import Instruction
from kgdbpatch.patch.reentry import DirectCalls
from kgdbpatch.patch.site import Site
from kgdbpatch.patch.site_checker import OffLimits, SiteChecker
from kgdbpatch.results import LiveRegisters

if TYPE_CHECKING:
    from kgdbpatch.personality.base import Module, Personality

__all__ = ["ModularSiteChecker", "site_checker"]

Words = npt.NDArray[np.uint32]


def site_checker(personality: Personality, image: Image, words: Callable[[int, int], Words]) -> SiteChecker:
    """Return what answers for the sites of one module, which has this image."""
    edges = ImplicitEdges(personality.exceptional_edges(image), personality.rewritten_edges(image))
    family = cpu.of_model(image.model)
    limits = OffLimits(
        space=family.kernel_space,
        remaps=family.remaps,
        untranslated_sections=frozenset(),
        vectors=(),
        discarded=(),
        fault_sites=personality.fault_sites(image),
        implicit=edges,
        rewritten=personality.rewritten(image),
        reads=personality.rewritten_reads(image),
    )
    return SiteChecker(image, limits, words, _liveness_index)


def _liveness_index(
    image: Image,
    sections: Sequence[tuple[int, Words]],
    functions: Sequence[tuple[int, int]],
    implicit: ImplicitEdges,
    reads: Mapping[int, int],
) -> LivenessIndex:
    """Analyse a module; its data changes all the time, so nothing is remembered of it.

    The symbols that it keeps are among its data: every function's address stands there, as if somebody
    unknown calls it.
    """
    from kgdbpatch.analysis.interprocedural import analyze_program

    data = [(section.address, section.data) for section in image.sections]
    liveness = analyze_program(sections, functions, image.abi, data, implicit, reads, image.model)
    return LivenessIndex.of(liveness, liveness.solve())


class ModularSiteChecker(SiteChecker):
    """Answer for the sites of a kernel and of its modules, each by what answers for it alone.

    ``at(address)`` returns the module that an address is in now, or None.
    """

    def __init__(
        self,
        kernel: SiteChecker,
        image: Image,
        modules: Mapping[str, SiteChecker],
        at: Callable[[int], Module | None],
    ) -> None:
        self._image, self._kernel, self._modules, self._at = image, kernel, modules, at

    def _of(self, address: int) -> SiteChecker:
        name = self._image.module_at(address)
        return self._kernel if name is None else self._modules[name]

    def direct_calls(self, *others: SiteChecker) -> DirectCalls:
        """Return which functions call which directly, of the kernel and of its modules."""
        return self._kernel.direct_calls(*self._modules.values(), *others)

    def why(self, address: int) -> dict[str, int | None]:
        """Return, for every live register, the nearest instruction that may read it; as of a kernel."""
        return self._of(address).why(address)

    @contextmanager
    def in_bulk(self) -> Iterator[None]:
        """Judge many sites meanwhile."""
        with self._kernel.in_bulk():
            yield

    def function(self, address: int) -> Function:
        """Return the function around ``address``; raise `Refused` for what is no code."""
        return self._of(address).function(address)

    def instruction(self, address: int) -> Instruction:
        """Return the running instruction at ``address``."""
        return self._of(address).instruction(address)

    def no_code(self, instruction: Instruction) -> Iterator[Refused]:
        """Yield why a word is no instruction."""
        return self._of(instruction.address).no_code(instruction)

    def live(self, address: int) -> LiveRegisters:
        """Return which registers are live and which are free before ``address``, or raise `Refused`."""
        return self._of(address).live(address)

    def entry(self, address: int) -> int:
        """Return where a patch for a function's first instruction stands."""
        return self._of(address).entry(address)

    def site(self, address: int, *, force: bool = False) -> Site:
        """Return the site at ``address``; raise `Refused` where a rule forbids it.

        A module that is about to be loaded or unloaded has none (rule ``module``).
        """
        name = self._image.module_at(address)
        module = None if name is None else self._at(address)
        if name is not None and (module is None or not module.live):
            where = self._image.symbolize(address)
            raise Refused("module", f"{where}: the module is being loaded or unloaded", address)
        return self._of(address).site(address, force=force)

    def caller_frame(self, function: Function) -> CallerFrame:
        """Return what a function does to its caller's frame."""
        return self._of(function.address).caller_frame(function)

    def code(self, address: int) -> Code:
        """Return the program that an address is of: the kernel, or a module."""
        return self._of(address).code(address)

    def nearby(self, address: int) -> Iterator[int]:
        """Yield the other addresses of the same function, nearest first."""
        return self._of(address).nearby(address)
