"""Patches that are in a guest for as long as something is measured: put in, waited for, taken out."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.kernel.interrupts import late_interrupts
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.patch import Batch
    from kgdbpatch.patch.request import PatchRequest

__all__ = ["Probing", "assure_running", "chosen", "while_alive"]

_POLL, _WATCHED = 0.1, 1.0  # seconds between looks at the clock, and at the kernel's health


def assure_running(kernel: Kernel) -> None:
    """Raise `Misuse` for a guest that is paused: nothing is to be measured; `DeadKernel` for a dead one."""
    kernel.assure_alive()
    if kernel._watch.glance().state == "paused":
        told = f"guest '{kernel.name}' is paused: nothing runs there that could be measured"
        raise Misuse(f"{told}; 'kgdbpatch resume {kernel.name}' lets it go on")


def while_alive(
    kernel: Kernel, seconds: float | None, look: Callable[[], object] = lambda: None, every: float = _POLL
) -> None:
    """Let so many seconds pass, for ever with None, and ``look`` every so often; raise `DeadKernel`."""
    began = now = time.monotonic()
    watched = began + _WATCHED
    while seconds is None or now - began < seconds:
        time.sleep(every if seconds is None else max(min(every, began + seconds - now), 0))
        now = time.monotonic()
        if now > watched:
            kernel.assure_alive()
            watched = now + _WATCHED
        look()


def chosen(kernel: Kernel, pattern: str) -> list[int]:
    """Return the functions that a glob, or the name of one, means; raise `Misuse` where it means none."""
    image = kernel.image
    if not any(letter in pattern for letter in "*?["):
        address = kernel.resolve(pattern)
        function = image.function_at(address)
        if function is None or function.address != address:
            raise Misuse(f"'{pattern}' is no function: give the name of one, or a glob")
        return [address]
    found = [one.address for one in image.matching(pattern) if one.size]
    if not found:
        near = image.near(pattern.translate(str.maketrans("", "", "*?[]")))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise Misuse(f"no function of {image.path.name} is like '{pattern}'{hint}")
    return list(dict.fromkeys(found))


class Probing(ABC):
    """Something that is measured by patches; as a context manager they are in the guest for that long."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sites: dict[int, int] = {}  # of our patches
        self.refused: list[Refused] = []  # sites where a rule forbids one

    def __enter__(self) -> Self:
        """Put them in."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take them out."""
        self.stop()

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Put the patches in; raise `Refused` where rules forbid all of them, `Misuse` for a paused guest."""
        assure_running(self._kernel)
        try:
            self._put_in(progress)
            if not self._sites:
                raise self.refused[0] if self.refused else Misuse("there is nothing to measure")
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def _put_in(self, progress: Callable[[str], None]) -> None:
        """Put all patches in, by `_add`."""

    def _add(
        self, sites: Iterable[int], request: PatchRequest, progress: Callable[[str], None] = lambda _: None
    ) -> Batch:
        """Put a patch at each site; one that is interrupted has done all of it, or nothing."""
        with late_interrupts() as look:

            def say(what: str) -> None:
                look()
                progress(what)

            batch = self._kernel.patch_all(sites, request, progress=say)
            self._sites |= {patch.id: patch.site for patch in batch.patches}
            self.refused += batch.refused
        return batch

    def wait(self, seconds: float | None) -> None:
        """Let so many seconds pass, for ever with None; raise `DeadKernel` when the kernel dies meanwhile."""
        while_alive(self._kernel, seconds)

    def stop(self) -> None:
        """Take the patches out; what was gathered is gone then."""
        sites, self._sites = self._sites, {}
        if not sites:
            return
        rows = {one.id: one for one in self._kernel.records() if one.state is not PatchState.RETIRED}
        ours = [one for one in reversed(sites) if one in rows and rows[one].site == sites[one]]
        if ours:
            self._kernel.remove(*ours)
