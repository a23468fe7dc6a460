"""Walk the stacks of a stopped kernel: frames, what exceptions interrupted, and patches, each by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kgdbpatch.cpu.msr import PR
from kgdbpatch.results import FrameRow

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu
    from kgdbpatch.kernel.code_map import CodeMap
    from kgdbpatch.kernel.safe_moment import Stacks
    from kgdbpatch.personality.base import SavedContext

__all__ = ["Walker", "Where", "exception_name"]

_MOST = 256  # frames of a trace
_LARGEST = 1 << 16  # bytes of a frame
_WIDE = 0x400  # bytes in which an exception's registers are looked for where no back chain ends them
_EXCEPTIONS = {  # by the offset of the vector, which Book E's kernels use as well
    0x100: "system reset",
    0x200: "machine check",
    0x300: "data storage",
    0x400: "instruction storage",
    0x500: "external interrupt",
    0x600: "alignment",
    0x700: "program",
    0x800: "floating-point unavailable",
    0x900: "decrementer",
    0xC00: "system call",
    0xD00: "trace",
}


def exception_name(vector: int) -> str | None:
    """Return what an exception is called by its vector's offset."""
    return _EXCEPTIONS.get(vector)


class Where(NamedTuple):
    """Where code goes on: ``exact`` at ``pc`` itself, with LR as it is; else a call returns there."""

    pc: int
    sp: int
    kind: str
    lr: int | None = None
    exact: bool = True
    exception: str | None = None
    registers: dict[int, int] | None = None


class Walker:
    """What follows the stacks of one guest; ``code`` says whose code is where."""

    def __init__(self, stacks: Stacks, code: CodeMap, cpu: Cpu, saved: SavedContext | None) -> None:
        self._stacks, self._code, self._cpu, self._saved = stacks, code, cpu, saved

    def frames(self, start: Where | None, then: Where | None = None) -> list[FrameRow]:
        """Return the frames from a place on, the innermost first; ``then`` is what is above it, if known."""
        found: list[FrameRow] = []
        seen: set[tuple[int, int]] = set()
        while start is not None and len(found) < _MOST and (start.pc, start.sp) not in seen:
            seen.add((start.pc, start.sp))
            found.append(self._row(len(found), start))
            start, then = then or (None if start.kind == "process" else self._next(start)), None
        return found

    def asleep(self, sp: int) -> Where | None:
        """Return where a thread goes on that left its stack at ``sp``: in what called the switch.

        One that never ran has no frames yet, but the address at which it begins.
        """
        found = self._by_chain(sp, None)
        if found is not None or self._saved is None:
            return found
        words = (self._stacks.word(at) for at in range(sp, sp + self._saved.trap, 4))
        begins = [word for word in words if word and not word % 4 and self._code.piece_at(word) is not None]
        return Where(begins[-1], sp, "call", exact=False) if begins else None

    def is_saved(self, at: Where, pc: int) -> bool:
        """Tell whether the frame at a place has the registers of what was interrupted at ``pc``."""
        found = self._context(at)
        return found is not None and found.pc == pc

    def _row(self, level: int, at: Where) -> FrameRow:
        if at.kind == "process":
            return FrameRow(level, at.pc, f"0x{at.pc:08x}", at.kind, at.sp, exception=at.exception)
        behind = not at.exact and self._code.calls_before(at.pc)  # else a handler was told to return there
        piece = self._code.piece_at(at.pc - 4 * behind)
        name = self._code.name(at.pc, behind=behind)
        if piece is None or piece.patch is None:
            return FrameRow(level, at.pc, name, at.kind, at.sp, exception=at.exception)
        site = self._code.name(piece.site)
        return FrameRow(level, at.pc, name, at.kind, at.sp, piece.patch, site, at.exception)

    # ---- one frame up -----------------------------------------------------------------------------

    def _next(self, at: Where) -> Where | None:
        known = self._code.unwinding(at.pc if at.exact else at.pc - 4)
        if known is not None and known.size and known.saved in self._stacks.lr:  # no registers
            found = self._by_code(at)
            if found is not None:
                return found
        context = self._context(at)
        if at.exact and context is not None and context.lr != at.lr:
            inner = self._by_code(at)  # what the handler has called, without a frame of its own yet
            if inner is not None and inner.sp == at.sp:
                return inner
        if context is not None:
            return context
        return self._by_code(at) or self._by_chain(at.sp, at) or self._process(at.sp)

    def _by_code(self, at: Where) -> Where | None:
        """Return who has called, by what the code at the place has done since it was called."""
        place = at.pc if at.exact else at.pc - 4
        piece, known = self._code.piece_at(place), self._code.unwinding(place)
        if known is None or piece is None:
            return None
        above = self._stacks.word(at.sp) if known.size is None else at.sp + known.size
        if above is not None and known.size is None and self._goes_up(at.sp, above, same=False):
            above += known.behind
        if above is None or not self._goes_up(at.sp, above, same=at.exact or piece.glue):
            return None
        if known.size and self._stacks.word(at.sp) != above:
            return None
        if known.in_lr and at.exact:
            back = at.lr
        elif known.saved is not None:
            back = self._stacks.word(above + known.saved)
        else:
            back = None if known.held is None or not at.exact else (at.registers or {}).get(known.held)
        if back is None:
            return None
        if piece.glue:
            there = Where(piece.site, above, "cpu", back)
            return self._by_code(there) or self._by_chain(above, there)
        return self._called(back, above)

    def _by_chain(self, sp: int, at: Where | None) -> Where | None:
        """Return who has called, by the back chain alone."""
        above = self._stacks.word(sp)
        if above is None or not self._goes_up(sp, above, same=False):
            return None
        for offset in self._stacks.lr:
            back = self._stacks.word(above + offset)
            found = None if back is None else self._called(back, above)
            if found is not None:
                return found
        return None

    def _called(self, back: int, sp: int) -> Where | None:
        if back % 4 or (self._code.piece_at(back) or self._code.piece_at(back - 4)) is None:
            return None
        return Where(back, sp, "call", exact=False)

    def _goes_up(self, sp: int, above: int, *, same: bool) -> bool:
        """Tell whether a frame may follow: further up, or in another stack, which interrupts have left."""
        if above % 4 or (above == sp and not same):
            return False
        if sp <= above < sp + _LARGEST or self._stacks.thread_at(above) is not None:
            return True
        saved = (self._stacks.word(above + offset) for offset in self._stacks.lr)  # on another interrupt's?
        return any(
            word is not None and self._called(word, above) and self._code.calls_before(word) for word in saved
        )

    # ---- exceptions -----------------------------------------------------------------------------------

    def _context(self, at: Where) -> Where | None:
        """Return what was interrupted, where the frame at a place has an exception's registers."""
        chain = self._stacks.word(at.sp)
        if chain is None or self._saved is None:
            return None
        thread = self._stacks.thread_at(at.sp)
        limit = _WIDE if thread is None else thread.stack.end - at.sp
        size = chain - at.sp if 0 < chain - at.sp <= limit else min(limit, _WIDE)
        return self._found(at.sp, size, chain)

    def _process(self, sp: int) -> Where | None:
        """Return where a process goes on, whose registers stand at the end of the stack."""
        thread = self._stacks.thread_at(sp)
        if thread is None or self._saved is None:
            return None
        found = self._found(sp, min(thread.stack.end - sp, _LARGEST), None)
        return found if found is not None and found.kind == "process" else None

    def _found(self, sp: int, size: int, chain: int | None) -> Where | None:
        """Return the context saved in ``size`` bytes from ``sp`` on; ``chain`` is its r1, if known."""
        saved = self._saved
        data = self._stacks.read(sp, size & ~3) if saved is not None and size > saved.trap else None
        if saved is None or data is None:
            return None
        words = np.frombuffer(data, ">u4").astype(np.uint32)
        last = len(words) - saved.trap // 4
        frames = np.arange(last) if chain is None else np.flatnonzero(words[1 : last + 1] == chain)
        for first in frames.tolist():
            kept = words[first : first + saved.trap // 4 + 1].tolist()
            pc, msr = kept[saved.pc // 4], kept[saved.msr // 4]
            kind = self.kind(pc, msr)
            if kind is not None:
                trap = kept[saved.trap // 4] & ~0xF
                name = exception_name(trap) or f"exception 0x{trap:x}"
                registers = dict(enumerate(kept[:32]))
                return Where(pc, kept[1], kind, kept[saved.lr // 4], exception=name, registers=registers)
        return None

    def kind(self, pc: int, msr: int) -> str | None:
        """Return what was interrupted by the pc and the MSR that were saved; None: they are none."""
        process = self._cpu.in_process(msr)
        if not self._stacks.status(np.array([msr & ~PR], np.uint32))[0] or pc % 4:
            return None
        if process:
            return "process"
        return "interrupted" if self._code.piece_at(pc) is not None else None
