"""Kernels that do not run: their file is all there is, and the guest's memory as it would be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch import cpu, personality
from kgdbpatch.component.arena import Arena
from kgdbpatch.image import Image
from kgdbpatch.kernel import remembered
from kgdbpatch.kernel.checks import Checker
from kgdbpatch.kernel.planner import Planner
from kgdbpatch.kernel.remembered import off_limits
from kgdbpatch.patch.site_checker import SiteChecker

__all__ = ["checker", "planner", "site_checker", "words"]


class _Unused:
    """Guest RAM that nobody has written to: no patch is in."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, address: int, size: int) -> bytes:
        """Return bytes; they are zero."""
        return bytes(size)

    def array(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        """Return the same as an array."""
        return np.zeros(size, np.uint8)


def words(image: Image, address: int, count: int) -> npt.NDArray[np.uint32]:
    """Return instruction words as the file has them."""
    return np.frombuffer(image.read(address, 4 * count), ">u4").astype(np.uint32)


def site_checker(image: Image) -> SiteChecker:
    """Return what answers for the sites of a kernel that does not run."""
    limits = off_limits(personality.detect(image), image)
    return SiteChecker(image, limits, lambda at, count: words(image, at, count), remembered.liveness_index)


def planner(image: Image, *, force: bool = False) -> Planner:
    """Return what plans patches of a kernel that does not run: its guest would be just booted."""
    system = personality.detect(image)
    plan = system.arena(image)
    on = cpu.of_model(image.model)
    hook = on.trap_hook(system, image, plan, lambda at, count: words(image, at, count))
    arena = Arena(_Unused(plan.physical + plan.size), plan)
    return Planner(
        image,
        site_checker(image),
        arena,
        hook=hook,
        force=force,
        stack=system.stack_size(image),
        target=on.target,
    )


def checker(image: Image, *, count: bool = False) -> Checker:
    """Return what judges sites of a kernel that does not run, as `Kernel.checker` does of one that does."""
    return Checker(image, planner(image), count=count)
