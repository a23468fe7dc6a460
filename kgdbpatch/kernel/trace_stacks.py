"""Name what a trace's stacks hold: functions, and patches, as `bt` names them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from kgdbpatch.kernel.code_map import CodeMap
from kgdbpatch.tracing.stacks import CALLED, INTERRUPTED, LINKED, Stack, StackFacts

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["StackNames", "framed", "stack_facts"]

_PAGE = 0x1000


def stack_facts(kernel: Kernel, base: str | None) -> StackFacts:
    """Return what walking stacks takes; ``base`` is C for the running thread's."""
    personality, image = kernel._personality, kernel.image
    size = personality.stack_size(image)
    starts = [thread.stack.start for thread in kernel._threads.all()]
    aligned = bool(starts) and not size & (size - 1) and not any(start % size for start in starts)
    saved = personality.context
    context = None
    if saved is not None:
        at = saved.first
        context = (at + 4, at + saved.pc, at + saved.lr, at + saved.msr, at + saved.trap)
    pieces = [(section.address, section.size) for section in image.code_sections()]
    header = kernel._text.header()
    if header is not None:
        pieces.append((header.arena.virtual, header.arena.size))
        near = header.arena.near
        pieces += [] if near is None else [(near.start, near.end - near.start)]
    return StackFacts(image.abi.lr_offset, tuple(pieces), size if aligned else _PAGE, base, size, context)


def framed(code: CodeMap, address: int) -> bool:
    """Tell whether a function has made its frame at an address, so the back chain begins with its own."""
    known = code.unwinding(address)
    return known is not None and known.size != 0


class StackNames:
    """Names the words that a payload has stored of a stack (prelude.c)."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._code: CodeMap | None = None
        self._exits: set[int] = set()  # patches at functions' exits
        self._nowhere: set[int] = set()  # addresses that are in no code
        self.stack = lru_cache(maxsize=1 << 16)(self._stack)

    def _known(self, address: int) -> CodeMap:
        """Return the code as it is, read anew where an address was in none before."""
        if self._code is None or (address not in self._nowhere and self._code.piece_at(address) is None):
            self._code = CodeMap(self._kernel)
            self._exits = {row.id for row in self._kernel.records() if row.exits is not None}
            if self._code.piece_at(address) is None:
                self._nowhere.add(address)
        return self._code

    def _stack(self, words: tuple[int, ...]) -> Stack:
        return Stack(self._names([(word & ~3, word & 3) for word in words if word]))

    def _names(self, places: Sequence[tuple[int, int]]) -> Iterator[str]:
        interrupted = 0
        skip = False  # what comes next stands where LR will be saved
        for number, (address, how) in enumerate(places):
            if skip:
                skip = False
                continue
            code = self._known(address)
            if how == LINKED:
                known = code.unwinding(interrupted)
                if known is None or not known.in_lr or (known.size and known.saved is not None):
                    continue
                skip = known.size != 0
            elif how == INTERRUPTED:
                interrupted = address
            called = number > 0 and how in (CALLED, LINKED)
            yield code.name(address, behind=called and code.calls_before(address))
            leaves = code.unwinding(address - 4) if called else None
            skip = leaves is not None and leaves.behind > 0  # it has changed stacks: its own frame comes next
            piece = code.piece_at(address)
            if called and piece is not None and piece.glue and piece.patch not in self._exits:
                known = code.unwinding(piece.site)
                skip = known is not None and known.in_lr
