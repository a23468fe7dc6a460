"""Count from where a function of a running kernel is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from kgdbpatch.errors import KgdbPatchError, Misuse
from kgdbpatch.isa.decode import Instruction, decode
from kgdbpatch.kernel.probing import assure_running, while_alive
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.profiles.callers import caller_rows
from kgdbpatch.profiles.rows import CallerRow

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Callers"]


class Callers:
    """Counts, while it is entered, from where ``function`` is called; ``most`` callers are told apart.

    >>> with Callers(kernel, "kfree") as callers:
    ...     callers.wait(1)
    ...     print(callers.rows()[0].symbol)
    skb_release_data+0x13c
    """

    def __init__(self, kernel: Kernel, function: str, *, most: int = 1024) -> None:
        self._kernel = kernel
        self._function = kernel.resolve(function)
        found = kernel.image.function_at(self._function)
        if found is None or found.address != self._function:
            raise Misuse(f"'{function}' is no function's entry: name a function")
        program = f"0x{self._function:x} {{ @[caller] = count() }}"
        self._trace = Trace(kernel, program, entries=most, raw=True)

    def __enter__(self) -> Self:
        """Begin to count."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the counter out."""
        self.stop()

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Put the counter in; raise `Refused` where none can be, `Misuse` for a guest that is paused."""
        assure_running(self._kernel)
        self._trace.start(progress)

    def stop(self) -> None:
        """Take the counter out; what was counted is gone then."""
        self._trace.stop()

    def wait(self, seconds: float | None) -> None:
        """Let so many seconds pass, for ever with None; raise `DeadKernel` when the kernel dies meanwhile."""
        while_alive(self._kernel, seconds)

    def rows(self) -> list[CallerRow]:
        """Return who has called so far, the busiest first; the guest is not stopped."""
        counts: dict[int, int] = {}
        lost = 0
        for row in self._trace.maps():
            (back,) = row.key
            assert isinstance(back, int)
            counts[back] = int(row.value)
            lost = row.lost
        code = self._kernel.code_of_patches()
        return caller_rows(
            counts,
            self._function,
            self._instruction,
            self._kernel.image.symbolize,
            patched=lambda at: any(start <= at < end for start, end, _ in code),
            lost=lost,
        )

    def _instruction(self, address: int) -> Instruction | None:
        try:
            (word,) = self._kernel.words(address, 1)
        except KgdbPatchError:
            return None
        return decode(int(word), address, self._kernel.image.model)
