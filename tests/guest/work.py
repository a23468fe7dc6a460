"""Let the guest's workload go on, and take everything out of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.kernel import Kernel, Patch
from kgdbpatch.patch.request import PatchRequest

from . import parts

__all__ = ["apply_in_vain", "beat", "empty", "entries", "hits"]


def beat(kernel: Kernel, times: int = 1) -> None:
    """Let the guest check itself, with nothing bad."""
    for _ in range(times):
        line = kernel.log.wait("selfcheck", deadline=60, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")


def empty(kernel: Kernel) -> None:
    """Take everything out: the text is the image's, all memory comes back."""
    until = time.monotonic() + 60
    while kernel.remove_all():
        assert time.monotonic() < until, f"still referenced: {kernel.patches}"
        beat(kernel)
    assert kernel.patches == []
    assert kernel.arena_used == 0
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)


def entries(kernel: Kernel, pattern: str) -> list[int]:
    """Return the first instructions of the functions that a glob names."""
    return [function.address for function in kernel.functions(pattern)]


def hits(patch: Patch) -> int:
    """Return how often a patch that counts ran."""
    count = patch.hits
    assert count is not None, patch
    return count


def apply_in_vain(kernel: Kernel, sites: Sequence[str | int], *, via: str = "auto") -> None:
    """Count at sites the last of which holds another word than planned, which refuses all of them."""
    planner = parts.planner(kernel, via)
    payload = planner.payload(PatchRequest(count=True))
    planned, _ = planner.plan_sites((kernel.resolve(site), payload) for site in sites)
    slot, last = planned[-1]
    wrong = [*planned[:-1], (slot, last._replace(original=last.original ^ 1))]
    with parts.client(kernel) as component, pytest.raises(Refused, match="as expected"):
        component.apply(kernel.header, wrong, parts.text(kernel).hook)
