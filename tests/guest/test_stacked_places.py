"""Patches of one site come out in any order, wherever in the arena their bodies stand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kgdbpatch.kernel import Kernel, Patch

ROOT = Path(__file__).parents[2]
SITE = "run_netisr"
KINDS = ("call", "count", "c")


def _put_in(kernel: Kernel, kind: str) -> Patch:
    if kind == "call":
        return kernel.patch(SITE, call="splx")
    if kind == "c":
        return kernel.patch(SITE, c=ROOT / "examples/packet_counter.c")
    return kernel.patch(SITE, count=True)


@pytest.mark.parametrize("kinds", list(itertools.permutations(KINDS)), ids=" ".join)
def test_the_lower_ones_first(kernel: Kernel, kinds: tuple[str, ...]) -> None:
    """A calling patch stands in the arena, a counting one near the vectors: one leads to the other."""
    patches = [_put_in(kernel, kind) for kind in kinds]
    for gone in range(1, len(patches)):
        kernel.remove(patches[gone - 1].id)
        top = kernel.patches[-1]
        before, mark = top.hits or 0, kernel.log.position()
        kernel.log.wait("selfcheck", deadline=60, since=mark)
        assert (kernel.patches[-1].hits or 0) > before
        assert kernel.verify().ok
    kernel.remove_all()
